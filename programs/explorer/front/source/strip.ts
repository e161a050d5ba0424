// The score along the text, and the threshold as a line that can be dragged, by pointer or by key.

import uPlot from "uplot";
import { colour } from "./colours";
import { number } from "./format";
import { FittedPlot } from "./plot";
import { NARROW } from "./samples";

export interface StripListener {
  threshold(tau: number): void;
  point(index: number | null): void;
  choose(index: number): void;
}

const [HEIGHT, LOW] = [170, 120]; // in pixels, the lower one where the page is narrow

export class Strip {
  readonly #plot: FittedPlot;
  #tau: number;
  #fired: Uint8Array;
  #chosen = 0;
  readonly #mark = document.createElement("div");
  readonly #line: HTMLElement;
  readonly #top: number;
  readonly #height: number;

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
    this.#height = NARROW.matches ? LOW : HEIGHT;
    this.#plot = new FittedPlot(root, this.#height, () => this.#drawn(), () => this.#place());
  }

  remove(): void {
    this.#plot.remove();
  }

  set(tau: number, fired: Uint8Array, mean: readonly (number | null)[]): void {
    this.#tau = tau;
    this.#fired = fired;
    this.mean = mean;
    this.#plot.current.setData(this.#data(), false);
    this.#plot.current.redraw();
    this.#place();
  }

  /** Shows which token is looked at; an element is moved, as a hover must not draw thousands of bars again. */
  choose(index: number): void {
    this.#chosen = index;
    this.#mark.style.transform = `translateX(${this.#plot.current.valToPos(index + 0.5, "x")}px)`;
  }

  #data(): uPlot.AlignedData {
    const quiet = this.scores.map((score, index) => (this.#fired[index] ? null : score));
    const loud = this.scores.map((score, index) => (this.#fired[index] ? score : null));
    return [Array.from(this.scores, (_, index) => index), quiet, loud, [...this.mean]] as uPlot.AlignedData;
  }

  #drawn(): uPlot {
    const bars = uPlot.paths.bars as uPlot.Series.BarsPathBuilderFactory;
    const paths = bars({ size: [0.8, 22, 1], align: 1 });
    const ink = colour("dim");
    const axis = { stroke: ink, font: "12px system-ui, sans-serif", ticks: { stroke: colour("line"), size: 4 }, grid: { show: false } };
    const plot = new uPlot(
      {
        width: Math.max(120, this.root.clientWidth),
        height: this.#height,
        padding: [10, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
        scales: {
          x: { time: false, range: [0, Math.max(1, this.scores.length)] },
          // Square roots: most scores are near zero, and a threshold lies among the small ones.
          y: { range: [0, this.#top], distr: 100, fwd: (v: number) => Math.sqrt(Math.max(0, v)), bwd: (v: number) => v * v } as uPlot.Scale,
        },
        axes: [
          { ...axis, size: 26, gap: 4, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] },
          { ...axis, size: 46, gap: 4, splits: () => splits(this.#top), values: (_, all) => all.map((value: number | null) => (value === null ? "" : String(Number(value.toPrecision(3))))) },
        ],
        series: [
          {},
          { stroke: colour("bar"), fill: colour("bar"), width: 0, paths, points: { show: false } },
          { stroke: colour("accent"), fill: colour("accent"), width: 0, paths, points: { show: false } },
          { stroke: colour("warm"), width: 1.2, dash: [3, 3], points: { show: false }, paths: uPlot.paths.stepped?.({ align: 1 }) as uPlot.Series.PathBuilder },
        ],
        hooks: {
          setCursor: [(u) => this.#cursor(u)],
          ready: [
            (u) => {
              u.over.append(this.#mark, this.#line);
              u.over.addEventListener("click", (event) => this.#click(u, event));
              u.over.addEventListener("pointerleave", () => this.listener.point(null));
            },
          ],
        },
      },
      this.#data(),
      this.root,
    );
    queueMicrotask(() => this.#place());
    return plot;
  }

  #cursor(u: uPlot): void {
    const { left } = u.cursor;
    if (left === undefined || left < 0 || this.#line.classList.contains("dragged")) return;
    this.listener.point(this.#indexAt(u, left));
  }

  #indexAt(u: uPlot, left: number): number {
    return Math.min(this.scores.length - 1, Math.max(0, Math.floor(u.posToVal(left, "x"))));
  }

  #click(u: uPlot, event: MouseEvent): void {
    if (event.target instanceof Node && this.#line.contains(event.target)) return;
    this.listener.choose(this.#indexAt(u, event.clientX - u.over.getBoundingClientRect().left));
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
      const box = this.#plot.current.over.getBoundingClientRect();
      const top = Math.min(box.height, Math.max(0, event.clientY - box.top));
      this.listener.threshold(rounded(this.#plot.current.posToVal(top, "y")));
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
    const top = this.#plot.current.valToPos(Math.min(this.#top, Math.max(0, this.#tau)), "y");
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
