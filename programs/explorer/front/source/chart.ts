// Points of an aggregate with their intervals; a click chooses the nearest.

import type { Aggregate, AggregatePoint } from "./contract";
import { line, Plot, steps, written } from "./plot";

const HEIGHT = 300;

export class Chart {
  readonly #plot: Plot;
  readonly #near = document.createElement("div"); // round the point that a click would choose
  readonly #points: readonly AggregatePoint[]; // by x
  readonly #x: [number, number];
  readonly #y: [number, number];
  #chosen: number | null = null;

  constructor(
    readonly root: HTMLElement,
    readonly aggregate: Aggregate,
    readonly choose: (index: number) => void,
  ) {
    const { points } = aggregate;
    this.#points = [...points].sort((a, b) => a.x - b.x);
    const xs = points.map((point) => point.x);
    const values = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
    const margin = (Math.max(...xs) - Math.min(...xs)) * 0.04 || 0.5;
    this.#x = [Math.min(...xs) - margin, Math.max(...xs) + margin];
    this.#y = [1.06 * Math.min(0, ...values), 1.06 * Math.max(0, ...values) || 1];
    this.#plot = new Plot(root, HEIGHT, 48, () => this.#draw());
    this.#near.className = "near";
    this.#near.hidden = true;
    const { field } = this.#plot;
    field.classList.add("clickable");
    field.append(this.#near);
    field.addEventListener("click", (event) => this.choose(points.indexOf(this.#nearest(event))));
    field.addEventListener("pointermove", (event) => this.#point(event));
    field.addEventListener("pointerleave", () => void (this.#near.hidden = true));
    this.#plot.redraw();
  }

  remove(): void {
    this.#plot.remove();
  }

  mark(index: number | null): void {
    this.#chosen = index;
    this.#plot.redraw();
  }

  #at({ x }: AggregatePoint): number {
    const [least, most] = this.#x;
    return ((x - least) / (most - least)) * this.#plot.width;
  }

  #height(value: number): number {
    const [least, most] = this.#y;
    return (1 - (value - least) / (most - least)) * this.#plot.height;
  }

  #nearest(event: MouseEvent): AggregatePoint {
    const box = this.#plot.field.getBoundingClientRect();
    // Across counts more than up and down: one points at a place along the axis.
    const away = (point: AggregatePoint): number =>
      Math.hypot(this.#at(point) - (event.clientX - box.left), 0.3 * (this.#height(point.y) - (event.clientY - box.top)));
    return this.#points.reduce((best, point) => (away(point) < away(best) ? point : best));
  }

  #point(event: PointerEvent): void {
    const point = this.#nearest(event);
    this.#near.hidden = false;
    this.#near.style.transform = `translate(${this.#at(point)}px, ${this.#height(point.y)}px)`;
  }

  #draw(): void {
    const plot = this.#plot;
    const { factor, suffix } = this.aggregate.ticks;
    const [left, right] = this.#x;
    const across = steps(left, right, plot.width / 70).map((x) => ({ at: ((x - left) / (right - left)) * plot.width, text: written(x) }));
    const up = steps(...this.#y, 6).map((value) => ({ at: this.#height(value), text: `${written(value * factor)}${suffix}` }));
    plot.axes(across, up, this.aggregate.x, true);
    plot.stroke("accent", 1.6, (context) => this.#points.forEach((point) => context.lineTo(this.#at(point), this.#height(point.y))));
    plot.context.globalAlpha = 0.6;
    plot.stroke("accent", 1.3, (context) => {
      for (const point of this.#points) {
        if (point.low !== null && point.high !== null) line(context, this.#at(point), this.#height(point.low), this.#at(point), this.#height(point.high));
      }
    });
    plot.context.globalAlpha = 1;
    plot.fill("accent", (context) => this.#points.forEach((point) => circle(context, this.#at(point), this.#height(point.y), 4)));
    const chosen = this.#chosen === null ? undefined : this.aggregate.points[this.#chosen];
    if (chosen) plot.stroke("ink", 2, (context) => circle(context, this.#at(chosen), this.#height(chosen.y), 8));
  }
}

function circle(context: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  context.moveTo(x + radius, y);
  context.arc(x, y, radius, 0, 2 * Math.PI);
}
