"use strict";
// Every heading sorts its table: up, down, and back to the order in which it was written. What has no number comes last.
for (const table of document.querySelectorAll(".table table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  if (rows.length < 2) continue;

  const key = (row, place) => {
    const cell = row.cells[place];
    if (!cell.classList.contains("number")) return cell.textContent;
    return cell.hasAttribute("data-sort") ? Number(cell.dataset.sort) : null;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const sort = (place, turn) => {
    const sign = turn === "descending" ? -1 : 1;
    const sorted = [...rows].sort((a, b) => {
      const [x, y] = [key(a, place), key(b, place)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * compare(x, y);
    });
    body.append(...(turn ? sorted : rows));
    table.classList.toggle("sorted", Boolean(turn));
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    if (turn) headings[place].setAttribute("aria-sort", turn);
  };

  headings.forEach((heading, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" };
      const now = heading.getAttribute("aria-sort");
      sort(place, now ? next[now] : "ascending");
    });
  });
}
