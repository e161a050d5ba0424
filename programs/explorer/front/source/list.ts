// A list of which only the rows in sight exist, scrolled with the page: @tanstack/virtual-core for Preact.

import { observeWindowOffset, observeWindowRect, Virtualizer, windowScroll } from "@tanstack/virtual-core";
import { type RefObject } from "preact";
import { useLayoutEffect, useReducer, useState } from "preact/hooks";

export interface List {
  virtualizer: Virtualizer<Window, Element>;
  margin: number; // height above the list, in pixels
  rowHeight: number; // in pixels
}

/** Rows of one height; `body` is the element that is as high as all rows together. */
export function useList(count: number, rowHeight: number, body: RefObject<HTMLElement | null>): List {
  const [, again] = useReducer((n: number) => n + 1, 0);
  const [margin, setMargin] = useState(0);
  const options = {
    count,
    estimateSize: () => rowHeight,
    overscan: 8,
    scrollMargin: margin,
    getScrollElement: () => window,
    observeElementRect: observeWindowRect,
    observeElementOffset: observeWindowOffset,
    scrollToFn: windowScroll,
    initialRect: { width: innerWidth, height: innerHeight },
    initialOffset: () => scrollY,
    onChange: () => again(0),
  };
  const [virtualizer] = useState(() => new Virtualizer<Window, Element>(options));
  virtualizer.setOptions(options);
  useLayoutEffect(() => virtualizer._didMount(), []);
  useLayoutEffect(() => virtualizer._willUpdate());
  useLayoutEffect(() => virtualizer.measure(), [rowHeight]);
  useLayoutEffect(() => {
    const found = body.current ? body.current.getBoundingClientRect().top + scrollY : 0;
    if (Math.abs(found - margin) > 0.5) setMargin(found);
  });
  return { virtualizer, margin, rowHeight };
}

/** Arrow keys, Home, End and page keys move the focus from row to row; rows out of sight are brought in first. */
export function moveAmongRows(event: KeyboardEvent, list: List, count: number): void {
  const body = event.currentTarget as HTMLElement;
  const row = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-index]") : null;
  if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
  const page = Math.max(1, Math.floor(innerHeight / list.rowHeight) - 3);
  const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -count, End: count };
  const step = steps[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const target = Math.min(count - 1, Math.max(0, Number(row.dataset.index) + step));
  list.virtualizer.scrollToIndex(target);
  let tries = 10;
  const focus = (): void => {
    const found = body.querySelector<HTMLElement>(`[data-index="${target}"]`);
    if (found) found.focus({ preventScroll: true });
    else if (tries-- > 0) requestAnimationFrame(focus);
  };
  requestAnimationFrame(focus);
}
