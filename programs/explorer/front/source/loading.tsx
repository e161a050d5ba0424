// What every view needs while its data comes: the last answer, an error with its remedy, a place that does not jump.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failure } from "./data";

export type Loaded<T> = { value: T; error: null } | { value: null; error: Error } | { value: null; error: null };

/** Reads when `key` changes; an answer that is overtaken by a later question is dropped. */
export function useLoaded<T>(read: () => Promise<T>, key: string): Loaded<T> {
  const [state, setState] = useState<Loaded<T> & { key: string }>({ value: null, error: null, key });
  useEffect(() => {
    let current = true;
    read().then(
      (value) => current && setState({ value, error: null, key }),
      (error: Error) => current && setState({ value: null, error, key }),
    );
    return () => void (current = false);
  }, [key]);
  return state.key === key ? state : { value: null, error: null };
}

/** A text of the server in which commands stand between backticks. */
export function Said({ text }: { text: string }) {
  return <>{text.split("`").map((part, place) => (place % 2 ? <code key={place}>{part}</code> : part))}</>;
}

export function Trouble({ error }: { error: Error }) {
  return (
    <p class="trouble" role="alert">
      <strong>{error.message}</strong> {error instanceof Failure && <Said text={error.remedy} />}
    </p>
  );
}

/** The view once its data is there. */
export function Awaited<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }) {
  if (of.error) return <Trouble error={of.error} />;
  if (of.value === null) return <p class="waiting" role="status" aria-label="Loading" />;
  return <>{children(of.value)}</>;
}

/** Sets the document's title while a view is shown. */
export function useTitle(title: string): void {
  useEffect(() => void (document.title = `${title} · rrti explorer`), [title]);
}
