// A drawing that is as wide as its place and has the colours of the scheme: a canvas, and over its field an element for what
// is pointed at and moved.

import { colour, onScheme } from "./colours";

export interface Tick {
  at: number; // pixels from the field's left or top
  text: string;
}

const [TOP, RIGHT, LEFT] = [10, 10, 46]; // round the field, in pixels; numbers stand at its left
const FONT = "px system-ui, sans-serif";

export class Plot {
  readonly field = document.createElement("div");
  readonly context: CanvasRenderingContext2D;
  readonly height: number; // of the field
  width = 0;
  #drawnAt = 0; // the place's width
  readonly #canvas = document.createElement("canvas");
  readonly #resize: ResizeObserver;
  readonly #unscheme: () => void;

  /** `below`: pixels under the field; `draw` draws it, at `redraw` and where the width or the scheme changes. */
  constructor(
    readonly root: HTMLElement,
    readonly total: number,
    below: number,
    private readonly draw: (plot: Plot) => void,
  ) {
    this.context = this.#canvas.getContext("2d") as CanvasRenderingContext2D;
    this.height = total - TOP - below;
    this.field.className = "plotted";
    Object.assign(this.field.style, { left: `${LEFT}px`, right: `${RIGHT}px`, top: `${TOP}px`, height: `${this.height}px` });
    root.append(this.#canvas, this.field);
    this.#resize = new ResizeObserver(() => this.root.clientWidth > 0 && this.root.clientWidth !== this.#drawnAt && this.redraw());
    this.#resize.observe(root);
    this.#unscheme = onScheme(() => this.redraw());
  }

  redraw(): void {
    const [width, scale] = [Math.max(120, this.root.clientWidth), devicePixelRatio];
    this.#drawnAt = this.root.clientWidth;
    this.width = width - LEFT - RIGHT;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(this.total * scale);
    Object.assign(this.#canvas.style, { width: `${width}px`, height: `${this.total}px` });
    this.context.setTransform(scale, 0, 0, scale, LEFT * scale, TOP * scale);
    this.draw(this);
  }

  remove(): void {
    this.#resize.disconnect();
    this.#unscheme();
    this.root.replaceChildren();
  }

  /** A line or an area in a colour of the style sheet. */
  fill(name: string, trace: (context: CanvasRenderingContext2D) => void): void {
    this.context.fillStyle = colour(name);
    this.context.beginPath();
    trace(this.context);
    this.context.fill();
  }

  stroke(name: string, width: number, trace: (context: CanvasRenderingContext2D) => void): void {
    this.context.strokeStyle = colour(name);
    this.context.lineWidth = width;
    this.context.beginPath();
    trace(this.context);
    this.context.stroke();
  }

  /** Ticks along the bottom with what they are of, and at the left, there across the field where `grid` says so. */
  axes(x: readonly Tick[], y: readonly Tick[], label = "", grid = false): void {
    const { context, width, height } = this;
    this.stroke("line", 1, () => {
      for (const { at } of x) line(context, at, height, at, height + 4);
      for (const { at } of y) line(context, -4, at, grid ? width : 0, at);
    });
    context.fillStyle = colour("dim");
    context.font = `12${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const { at, text } of x) context.fillText(text, at, height + 8);
    context.font = `13${FONT}`;
    context.fillText(label, width / 2, height + 30);
    context.font = `12${FONT}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const { at, text } of y) context.fillText(text, -8, at);
  }
}

export function line(context: CanvasRenderingContext2D, x: number, y: number, toX: number, toY: number): void {
  context.moveTo(x, y);
  context.lineTo(toX, toY);
}

/** Round numbers between two, at most so many and at least `finest` apart. */
export function steps(least: number, most: number, count: number, finest = 0): number[] {
  const raw = Math.max((most - least) / Math.max(1, count), finest, Number.MIN_VALUE);
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5].find((times) => times * unit >= raw * 0.999) ?? 10) * unit;
  const first = Math.ceil(least / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(most / step + 1e-9) - first + 1) }, (_, place) => (first + place) * step);
}

/** A tick's number, without what arithmetic adds to it. */
export const written = (value: number): string => String(Number(value.toPrecision(3))).replace("-", "−");
