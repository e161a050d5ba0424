// The score along the text, and the threshold as a line that can be dragged, by pointer or by key.

import { number } from "./format";
import { Plot, steps, written } from "./plot";
import { NARROW } from "./samples";

export interface StripListener {
  threshold(tau: number): void;
  point(index: number | null): void;
  choose(index: number): void;
}

const [HEIGHT, LOW] = [170, 120]; // in pixels, the lower one where the page is narrow

export class Strip {
  readonly #plot: Plot;
  #tau: number;
  #fired: Uint8Array;
  #chosen = 0;
  readonly #mark = document.createElement("div");
  readonly #line: HTMLElement;
  readonly #top: number;

  /** `mean`: what a score must exceed besides tau, drawn where a rule has lambda; null entries are left out. */
  constructor(
    readonly root: HTMLElement,
    readonly scores: readonly (number | null)[],
    private mean: readonly (number | null)[],
    tau: number,
    fired: Uint8Array,
    readonly unit: string,
    readonly listener: StripListener,
  ) {
    this.#tau = tau;
    this.#fired = fired;
    this.#top = extreme(finite(scores), Math.max, 0) * 1.04 || 1;
    this.#mark.className = "lookedat";
    this.#line = this.#threshold();
    this.#plot = new Plot(root, NARROW.matches ? LOW : HEIGHT, 26, () => this.#draw());
    const { field } = this.#plot;
    field.append(this.#mark, this.#line);
    field.addEventListener("click", (event) => !this.#onLine(event) && this.listener.choose(this.#indexAt(event)));
    field.addEventListener("pointermove", (event) => !this.#line.classList.contains("dragged") && this.listener.point(this.#indexAt(event)));
    field.addEventListener("pointerleave", () => this.listener.point(null));
    this.#plot.redraw();
  }

  remove(): void {
    this.#plot.remove();
  }

  set(tau: number, fired: Uint8Array, mean: readonly (number | null)[]): void {
    this.#tau = tau;
    this.#fired = fired;
    this.mean = mean;
    this.#plot.redraw();
  }

  /** Shows which token is looked at; an element is moved, as a hover must not draw thousands of bars again. */
  choose(index: number): void {
    this.#chosen = index;
    this.#mark.style.transform = `translateX(${(index + 0.5) * this.#slot}px)`;
  }

  /** The width of a token, in pixels. */
  get #slot(): number {
    return this.#plot.width / Math.max(1, this.scores.length);
  }

  /** Square roots: most scores are near zero, and a threshold lies among the small ones. */
  #height(score: number): number {
    return this.#plot.height * (1 - Math.sqrt(Math.min(1, Math.max(0, score / this.#top))));
  }

  #draw(): void {
    const plot = this.#plot;
    const slot = this.#slot;
    const x = steps(0, this.scores.length, plot.width / 60, 1).map((index) => ({ at: index * slot, text: String(index) }));
    const y = splits(this.#top).map((score) => ({ at: this.#height(score), text: written(score) }));
    plot.axes(x, y);
    const width = Math.min(22, Math.max(1, 0.8 * slot));
    for (const [name, fires] of [["bar", 0], ["accent", 1]] as const) {
      plot.fill(name, (context) =>
        this.scores.forEach((score, index) => {
          if (score === null || this.#fired[index] !== fires) return;
          const top = this.#height(score);
          context.rect(index * slot, top, width, plot.height - top);
        }),
      );
    }
    plot.context.setLineDash([3, 3]);
    plot.stroke("warm", 1.2, (context) => this.#limit(context));
    plot.context.setLineDash([]);
    this.#place();
  }

  #limit(context: CanvasRenderingContext2D): void {
    let drawn = false;
    this.mean.forEach((mean, index) => {
      if (mean !== null) {
        if (!drawn) context.moveTo(index * this.#slot, this.#height(mean));
        context.lineTo(index * this.#slot, this.#height(mean));
        context.lineTo((index + 1) * this.#slot, this.#height(mean));
      }
      drawn = mean !== null;
    });
  }

  #indexAt(event: MouseEvent): number {
    const left = event.clientX - this.#plot.field.getBoundingClientRect().left;
    return Math.min(this.scores.length - 1, Math.max(0, Math.floor(left / this.#slot)));
  }

  #onLine(event: MouseEvent): boolean {
    return event.target instanceof Node && this.#line.contains(event.target);
  }

  #threshold(): HTMLElement {
    const line = document.createElement("div");
    line.className = "threshold";
    line.tabIndex = 0;
    line.setAttribute("role", "slider");
    line.setAttribute("aria-label", "Threshold tau");
    line.setAttribute("aria-orientation", "vertical");
    line.setAttribute("aria-valuemin", "0");
    line.setAttribute("aria-valuemax", number(this.#top));
    const label = document.createElement("span");
    line.append(label);
    line.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      line.focus();
      line.setPointerCapture(event.pointerId);
      line.classList.add("dragged");
    });
    line.addEventListener("pointermove", (event) => {
      if (!line.hasPointerCapture(event.pointerId)) return;
      const box = this.#plot.field.getBoundingClientRect();
      const share = 1 - Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
      this.listener.threshold(rounded(this.#top * share ** 2));
    });
    const end = (): void => line.classList.remove("dragged");
    line.addEventListener("pointerup", end);
    line.addEventListener("pointercancel", end);
    line.addEventListener("keydown", (event) => this.#key(event));
    return line;
  }

  /** Up and Down: to the next score, where the decision on some token changes; page keys: a twentieth of the height. */
  #key(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const next = this.#keyed(event.key);
    if (next === null) return;
    event.preventDefault();
    this.listener.threshold(next);
  }

  #keyed(key: string): number | null {
    const root = Math.sqrt(Math.max(0, this.#tau));
    const step = Math.sqrt(this.#top) / 20;
    switch (key) {
      case "ArrowUp":
      case "ArrowRight":
        return extreme(finite(this.scores).filter((score) => score > this.#tau), Math.min, this.#top);
      case "ArrowDown":
      case "ArrowLeft":
        return extreme(finite(this.scores).filter((score) => score < this.#tau), Math.max, 0);
      case "PageUp":
        return rounded(Math.min(this.#top, (root + step) ** 2));
      case "PageDown":
        return rounded(Math.max(0, root - step) ** 2);
      case "Home":
        return 0;
      case "End":
        return this.#top;
      default:
        return null;
    }
  }

  #place(): void {
    this.choose(this.#chosen);
    const top = this.#height(this.#tau);
    this.#line.style.transform = `translateY(${top}px)`;
    this.#line.setAttribute("aria-valuenow", String(this.#tau));
    this.#line.setAttribute("aria-valuetext", `${number(this.#tau)} ${this.unit}`);
    this.#line.classList.toggle("low", top < 22);
    (this.#line.firstChild as HTMLElement).textContent = `τ ${number(this.#tau)}`;
  }
}

const finite = (values: readonly (number | null)[]): number[] => values.filter((value): value is number => value !== null && Number.isFinite(value));

const extreme = (values: readonly number[], of: (a: number, b: number) => number, start: number): number => values.reduce((a, b) => of(a, b), start);

/** Three significant digits are what a pointer can mean. */
const rounded = (value: number): number => Number(value.toPrecision(3));

function splits(top: number): number[] {
  const step = [0.001, 0.01, 0.1, 1, 10, 100, 1000].find((unit) => top / unit <= 12) ?? top;
  return [0, 0.1, 0.5, 1, 2, 4, 8].map((times) => times * step).filter((value) => value <= top);
}
