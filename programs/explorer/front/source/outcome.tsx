/** Right, wrong or ungraded: a sign, and the word for who does not see it. */
export function Outcome({ correct, word = false }: { correct: boolean | null; word?: boolean }) {
  const name = correct === null ? "ungraded" : correct ? "right" : "wrong";
  return (
    <span class={`outcome ${name}`} title={name}>
      <span aria-hidden="true">{correct === null ? "·" : correct ? "✓" : "✗"}</span>
      <span class={word ? "word" : "hidden"}>{word ? ` ${name}` : name}</span>
    </span>
  );
}
