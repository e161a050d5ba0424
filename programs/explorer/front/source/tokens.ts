// The text of a sample, token by token: written once, then only marked. A hover must not write thousands of tokens again.

import { visible } from "./format";

export interface Text {
  ids: readonly number[];
  texts: readonly string[];
  source: readonly string[];
  baseDrew: readonly (string | null)[];
  baseDrewIds: readonly (number | null)[];
  planning: readonly (string | null)[];
}

export interface Listener {
  point(index: number | null): void; // the pointer is over a token, or over none
  choose(index: number): void; // a click, or a key that moves
}

export const LEVELS = 9; // shades, 0: none

export class TokenText {
  readonly #spans: HTMLSpanElement[] = [];
  readonly #levels: Int8Array;
  #fired: Uint8Array = new Uint8Array(0);
  #chosen: HTMLSpanElement | null = null;
  #hovered: HTMLSpanElement | null = null;
  #pointed: number | null = null;
  #sight: IntersectionObserver | null = null;

  /** Writes the tokens from `from` on into `root`. Indices are positions in the sample throughout. */
  constructor(
    readonly root: HTMLElement,
    readonly text: Text,
    readonly listener: Listener,
    readonly from = 0,
    readonly to = text.texts.length,
  ) {
    this.#levels = new Int8Array(to);
    const all = document.createDocumentFragment();
    for (let index = from; index < to; index++) all.append(this.#written(index));
    root.replaceChildren(all);
    root.addEventListener("pointermove", this.#move);
    root.addEventListener("pointerleave", this.#leave);
    root.addEventListener("click", this.#click);
    root.addEventListener("keydown", this.#key);
  }

  /** Calls `near` with a token of each part of the text that is in sight or will be soon; ends with the text. */
  watch(near: (index: number) => void): void {
    const every = 64; // tokens, a few lines
    this.#sight = new IntersectionObserver((all) => all.forEach((one) => one.isIntersecting && near(Number((one.target as HTMLElement).dataset.i))), { rootMargin: "50%" });
    for (let index = this.from; index < this.to; index += every) this.#sight.observe(this.#spans[index] as HTMLElement);
  }

  remove(): void {
    this.#sight?.disconnect();
    this.root.removeEventListener("pointermove", this.#move);
    this.root.removeEventListener("pointerleave", this.#leave);
    this.root.removeEventListener("click", this.#click);
    this.root.removeEventListener("keydown", this.#key);
    this.root.replaceChildren();
  }

  #written(index: number): Node {
    const { texts, source, planning } = this.text;
    const token = texts[index] ?? "";
    const span = document.createElement("span");
    span.className = "t";
    span.dataset.i = String(index);
    span.setAttribute("role", "option");
    const taken = isReasoning(source[index]);
    const drew = otherDrawn(this.text, index);
    if (taken) span.classList.add("taken");
    if (planning[index]) span.classList.add("plan");
    // The space before a word stays outside its mark: at the end of a line it would be an empty box.
    const space = /^ \S/.test(token) ? " " : "";
    span.textContent = /^[^\S\n]*$/.test(token) ? token || "∅" : token.slice(space.length).replaceAll("\n", "↵\n");
    this.#spans[index] = span;
    const written = document.createDocumentFragment();
    written.append(space);
    if (!taken || drew === null) {
      written.append(span);
      return written;
    }
    const struck = document.createElement("s");
    struck.className = "drew";
    struck.title = "what the base model had drawn";
    struck.textContent = visible(drew).replace(/^␣/, "");
    written.append(struck, span);
    return written;
  }

  /** Shades every token; levels from 0 to LEVELS - 1. */
  shade(levels: Int8Array): void {
    for (let index = this.from; index < this.to; index++) {
      const level = levels[index] ?? 0;
      if (level === this.#levels[index]) continue;
      this.#levels[index] = level;
      const span = this.#spans[index] as HTMLSpanElement;
      if (level) span.dataset.h = String(level);
      else delete span.dataset.h;
    }
  }

  /** Lights up the tokens that would fire. */
  mark(fired: Uint8Array): void {
    for (let index = this.from; index < this.to; index++) {
      if (fired[index] === (this.#fired[index] ?? 0)) continue;
      this.#spans[index]?.classList.toggle("fires", fired[index] === 1);
    }
    this.#fired = fired.slice();
  }

  /** Marks the token that is looked at, and brings it into sight if asked. */
  choose(index: number | null, intoSight: boolean): void {
    this.#chosen?.classList.remove("chosen");
    this.#chosen?.removeAttribute("aria-selected");
    this.#chosen?.removeAttribute("id");
    this.#chosen = index === null ? null : (this.#spans[index] ?? null);
    if (!this.#chosen) return this.root.removeAttribute("aria-activedescendant");
    this.#chosen.classList.add("chosen");
    this.#chosen.setAttribute("aria-selected", "true");
    this.#chosen.id = `${this.root.id}-chosen`;
    this.root.setAttribute("aria-activedescendant", this.#chosen.id);
    if (intoSight) this.#chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Marks the token that is pointed at elsewhere, such as in the strip. */
  point(index: number | null): void {
    this.#hovered?.classList.remove("pointed");
    this.#hovered = index === null ? null : (this.#spans[index] ?? null);
    this.#hovered?.classList.add("pointed");
  }

  #indexAt(target: EventTarget | null): number | null {
    const span = target instanceof Element ? target.closest<HTMLElement>(".t") : null;
    return span ? Number(span.dataset.i) : null;
  }

  readonly #move = (event: PointerEvent): void => {
    if (event.pointerType === "touch") return;
    const index = this.#indexAt(event.target);
    if (index === null || index === this.#pointed) return;
    this.#pointed = index;
    this.listener.point(index);
  };

  readonly #leave = (): void => {
    this.#pointed = null;
    this.listener.point(null);
  };

  readonly #click = (event: MouseEvent): void => {
    const index = this.#indexAt(event.target);
    if (index !== null) this.listener.choose(index);
  };

  readonly #key = (event: KeyboardEvent): void => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const now = this.#chosen ? Number(this.#chosen.dataset.i) : null;
    const next = this.#next(event.key, now);
    if (next === null) return;
    event.preventDefault();
    this.listener.choose(next);
    this.#chosen?.scrollIntoView({ block: "nearest" });
  };

  /** Where a key leads: a token on, a line on, an end, or the next takeover (n, p) or firing token (f). */
  #next(key: string, now: number | null): number | null {
    const last = this.to - 1;
    const start = now ?? this.from - 1;
    switch (key) {
      case "ArrowRight":
        return Math.min(last, start + 1);
      case "ArrowLeft":
        return Math.max(this.from, start - 1);
      case "ArrowDown":
      case "ArrowUp":
        return now === null ? this.from : this.#line(now, key === "ArrowDown");
      case "Home":
        return this.from;
      case "End":
        return last;
      case "n":
        return this.#search(start, 1, (index) => isReasoning(this.text.source[index]));
      case "p":
        return this.#search(start, -1, (index) => isReasoning(this.text.source[index]));
      case "f":
        return this.#search(start, 1, (index) => this.#fired[index] === 1);
      default:
        return null;
    }
  }

  #search(start: number, step: number, wanted: (index: number) => boolean): number | null {
    for (let index = start + step; index >= this.from && index < this.to; index += step) if (wanted(index)) return index;
    return null;
  }

  /** The token nearest in the line below or above. */
  #line(now: number, down: boolean): number {
    const place = (this.#spans[now] as HTMLElement).getBoundingClientRect();
    const middle = (place.left + place.right) / 2;
    let [best, distance, line] = [now, Infinity, NaN];
    for (let index = now + (down ? 1 : -1); index >= this.from && index < this.to; index += down ? 1 : -1) {
      const { top, bottom, left, right } = (this.#spans[index] as HTMLElement).getBoundingClientRect();
      if (down ? top < place.bottom - 2 : bottom > place.top + 2) continue;
      if (Number.isNaN(line)) line = top;
      if (Math.abs(top - line) > 4) break;
      const away = Math.abs((left + right) / 2 - middle);
      if (away < distance) [best, distance] = [index, away];
    }
    return best;
  }
}

/** Whether the reasoning model drew the token. */
export const isReasoning = (source: string | undefined): boolean => source === "reasoning" || source === "r";

/** What the base model had drawn where another token was kept; else null. Texts would not do: the same token has a space or none. */
export function otherDrawn(text: Pick<Text, "ids" | "baseDrew" | "baseDrewIds">, index: number): string | null {
  const id = text.baseDrewIds[index] ?? null;
  return id === null || id === text.ids[index] ? null : (text.baseDrew[index] ?? `#${id}`);
}

/** Shades for values of a metric: the square root of the share of the largest, so that small ones are told apart. */
export function levelsOf(values: readonly (number | null)[], top: number): Int8Array {
  return Int8Array.from(values, (value) => {
    if (value === null || !(top > 0)) return 0;
    return Math.min(LEVELS - 1, Math.round(Math.sqrt(Math.min(1, Math.abs(value) / top)) * (LEVELS - 1)));
  });
}

/** The value that gets the darkest shade: the largest of all but the few most extreme. */
export function topOf(values: readonly (number | null)[]): number {
  const sizes = values.filter((value): value is number => value !== null && Number.isFinite(value)).map(Math.abs);
  sizes.sort((a, b) => a - b);
  return sizes[Math.floor(0.995 * (sizes.length - 1))] ?? 0;
}
