// A plot that is as wide as its place and has the colours of the scheme.

import type uPlot from "uplot";
import { onScheme } from "./colours";

export class FittedPlot {
  current: uPlot;
  readonly #resize: ResizeObserver;
  readonly #unscheme: () => void;

  /** `draw` makes the plot, again where the scheme changes; `resized` is told of another width. */
  constructor(root: HTMLElement, height: number, draw: () => uPlot, resized: () => void = () => {}) {
    this.current = draw();
    this.#resize = new ResizeObserver(() => {
      if (Math.abs(this.current.width - root.clientWidth) > 0.5 && root.clientWidth > 0) {
        this.current.setSize({ width: root.clientWidth, height });
        resized();
      }
    });
    this.#resize.observe(root);
    this.#unscheme = onScheme(() => {
      this.current.destroy();
      this.current = draw();
    });
  }

  remove(): void {
    this.#resize.disconnect();
    this.#unscheme();
    this.current.destroy();
  }
}
