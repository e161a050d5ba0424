// The same problem elsewhere: what other runs, and other draws, made of it.

import { useState } from "preact/hooks";
import { href } from "./address";
import type { Sample, SampleRow, StoreInfo } from "./contract";
import { readPartners } from "./data";
import { count, runLabel, times } from "./format";
import { Awaited, useLoaded } from "./loading";
import { Outcome } from "./outcome";

export function Partners({ store, sample }: { store: StoreInfo; sample: Sample }) {
  const { run, sample: id } = sample.row;
  const loaded = useLoaded(() => readPartners(run, id), `${run}/${id}`);
  return (
    <section class="partners" aria-label="The same problem in other runs">
      <h2>The same problem</h2>
      <Awaited of={loaded}>{(rows) => (rows.length ? <Table store={store} rows={rows} run={run} sample={id} /> : <p class="dim">No other sample works on it.</p>)}</Awaited>
    </section>
  );
}

const FIRST = 12;

function Table({ store, rows, run, sample }: { store: StoreInfo; rows: SampleRow[]; run: string; sample: string }) {
  const [all, setAll] = useState(false);
  const runs = new Map(store.runs.map((info) => [info.run, runLabel(info)]));
  const shown = all ? rows : rows.slice(0, FIRST);
  return (
    <>
      <div class="table">
        <table>
          <thead>
            <tr>
              <th scope="col">
                <span class="hidden">Outcome</span>
              </th>
              <th scope="col">Run</th>
              <th scope="col">Answer</th>
              <th scope="col" class="n">
                Tokens
              </th>
              <th scope="col" class="n">
                Takeovers
              </th>
              <th scope="col">
                <span class="hidden">Compare</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={`${row.run}/${row.sample}`}>
                <td>
                  <Outcome correct={row.correct} />
                </td>
                <td>
                  <a href={href(["sample", row.run, row.sample])} title={row.run}>
                    {runs.get(row.run) ?? row.program}
                    {row.index > 0 && ` #${row.index}`}
                  </a>
                </td>
                <td>{row.answer ?? "–"}</td>
                <td class="n">{count(row.tokens)}</td>
                <td class="n">{count(row.takeovers)}</td>
                <td>
                  <a href={href(["compare", run, sample, row.run, row.sample])}>side by side</a>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > FIRST && !all && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {times(rows.length, "sample")}
        </button>
      )}
    </>
  );
}
