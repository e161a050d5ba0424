// Points of an aggregate with their intervals; a click chooses the nearest.

import uPlot from "uplot";
import { colour } from "./colours";
import type { Aggregate } from "./contract";
import { FittedPlot } from "./plot";

const HEIGHT = 300;
type Point = Aggregate["points"][number];

export class Chart {
  readonly #plot: FittedPlot;
  #chosen: number | null = null;
  readonly #points: { point: Point; index: number }[]; // by x, as uPlot wants them

  constructor(
    readonly root: HTMLElement,
    readonly aggregate: Aggregate,
    readonly choose: (index: number) => void,
  ) {
    this.#points = aggregate.points.map((point, index) => ({ point, index })).sort((a, b) => a.point.x - b.point.x);
    this.#plot = new FittedPlot(root, HEIGHT, () => this.#drawn());
  }

  remove(): void {
    this.#plot.remove();
  }

  mark(index: number | null): void {
    this.#chosen = index;
    this.#plot.current.redraw(false);
  }

  #drawn(): uPlot {
    const { x, points } = this.aggregate;
    const accent = colour("accent");
    const axis = { stroke: colour("dim"), font: "12px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif", labelSize: 20, ticks: { stroke: colour("line"), size: 4 } };
    const column = (of: (point: Point) => number | null): (number | null)[] => this.#points.map(({ point }) => of(point));
    const values = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
    const [least, most] = [Math.min(0, ...values), Math.max(...values, 0)];
    const xs = points.map((point) => point.x);
    const margin = (Math.max(...xs) - Math.min(...xs)) * 0.04 || 0.5;
    return new uPlot(
      {
        width: Math.max(120, this.root.clientWidth),
        height: HEIGHT,
        padding: [12, 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false } },
        scales: {
          x: { time: false, range: [Math.min(...xs) - margin, Math.max(...xs) + margin] },
          y: { range: [least, most * 1.06 || 1] },
        },
        axes: [
          { ...axis, label: x, size: 28, grid: { show: false } },
          { ...axis, size: 46, grid: { stroke: colour("line"), width: 0.5 } },
        ],
        series: [{}, { stroke: accent, width: 1.6, points: { show: true, size: 8, fill: accent, stroke: accent } }],
        hooks: {
          draw: [(u) => this.#drawMore(u)],
          ready: [
            (u) => {
              u.over.classList.add("clickable");
              u.over.addEventListener("click", (event) => this.#click(u, event));
            },
          ],
        },
      },
      [column((point) => point.x), column((point) => point.y)] as uPlot.AlignedData,
      this.root,
    );
  }

  #click(u: uPlot, event: MouseEvent): void {
    const box = u.over.getBoundingClientRect();
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    let [best, distance] = [-1, Infinity];
    for (const { point, index } of this.#points) {
      // Across counts more than up and down: one points at a place along the axis.
      const away = Math.hypot(u.valToPos(point.x, "x") - left, 0.3 * (u.valToPos(point.y, "y") - top));
      if (away < distance) [best, distance] = [index, away];
    }
    if (best >= 0) this.choose(best);
  }

  #drawMore(u: uPlot): void {
    const ctx = u.ctx;
    ctx.save();
    ctx.strokeStyle = colour("accent");
    ctx.lineWidth = 1.3 * devicePixelRatio;
    ctx.globalAlpha = 0.6;
    for (const { point } of this.#points) {
      if (point.low === null || point.high === null) continue;
      const x = u.valToPos(point.x, "x", true);
      ctx.beginPath();
      ctx.moveTo(x, u.valToPos(point.low, "y", true));
      ctx.lineTo(x, u.valToPos(point.high, "y", true));
      ctx.stroke();
    }
    const chosen = this.#chosen === null ? undefined : this.aggregate.points[this.#chosen];
    if (chosen) {
      ctx.globalAlpha = 1;
      ctx.strokeStyle = colour("ink");
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.beginPath();
      ctx.arc(u.valToPos(chosen.x, "x", true), u.valToPos(chosen.y, "y", true), 8 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.stroke();
    }
    ctx.restore();
  }
}
