// Addresses: paths where a server answers, "#/..." in a static export. Everything that a view shows is in its address.

export const isStatic = document.documentElement.hasAttribute("data-static");

export type Route =
  | { view: "samples" }
  | { view: "sample"; run: string; sample: string }
  | { view: "compare"; run: string; sample: string; otherRun: string; otherSample: string }
  | { view: "statistics"; name: string }
  | { view: "tree"; run: string; sample: string }
  | { view: "unknown"; path: string };

export interface Address {
  route: Route;
  query: URLSearchParams;
}

/** Joins path segments, each encoded: ["sample", run, sample] -> "sample/RUN/SAMPLE". */
export const joined = (...segments: string[]): string => segments.map(encodeURIComponent).join("/");

export function parse(url: URL): Address {
  let path = url.pathname;
  let search = url.search;
  if (isStatic) {
    const hash = url.hash.slice(1) || "/";
    const mark = hash.indexOf("?");
    path = mark < 0 ? hash : hash.slice(0, mark);
    search = mark < 0 ? "" : hash.slice(mark);
  }
  return { route: routeOf(path), query: new URLSearchParams(search) };
}

function routeOf(path: string): Route {
  let parts: string[];
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return { view: "unknown", path };
  }
  const [view, a, b, c, d] = parts;
  if (view === undefined) return { view: "samples" };
  if (view === "sample" && a && b && parts.length === 3) return { view, run: a, sample: b };
  if (view === "tree" && a && b && parts.length === 3) return { view, run: a, sample: b };
  if (view === "compare" && a && b && c && d && parts.length === 5) {
    return { view, run: a, sample: b, otherRun: c, otherSample: d };
  }
  if (view === "statistics" && a && parts.length === 2) return { view, name: a };
  return { view: "unknown", path };
}

/** An address as a link has it. Null and empty values are left out of the query. */
export function href(segments: string[], query: Record<string, string | number | null | undefined> | URLSearchParams = {}): string {
  const pairs = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const kept = new URLSearchParams();
  for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") kept.append(name, String(value));
  const search = kept.size ? `?${kept}` : "";
  return `${isStatic ? "#" : ""}/${joined(...segments)}${search}`;
}

const listeners = new Set<() => void>();
export function onMove(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
const tell = (): void => listeners.forEach((listener) => listener());
addEventListener("popstate", tell);

/** Goes to an address without loading the page anew. */
export function go(address: string): void {
  history.pushState(null, "", address);
  tell();
}

/** Writes the address of the present view; nothing is shown anew, and Back leads to the view before. */
export const keep = (address: string): void => history.replaceState(history.state, "", address);

/** Links of the page are followed in place; with a modifier key, or out of the page, the browser does. */
export function followLinks(root: HTMLElement): void {
  root.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.hasAttribute("download") || link.target || link.origin !== location.origin) return;
    const address = link.getAttribute("href") ?? "";
    if (isStatic ? !address.startsWith("#/") : !address.startsWith("/") || address.startsWith("/data/")) return;
    event.preventDefault();
    go(address);
    scrollTo(0, 0);
  });
}
