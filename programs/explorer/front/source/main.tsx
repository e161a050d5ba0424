// The page of `rrti view`: finds the view that the address names and shows it.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Address, followLinks, href, onMove, parse } from "./address";
import { CompareView } from "./compare";
import type { StoreInfo } from "./contract";
import { readStore } from "./data";
import { Awaited, useLoaded, useTitle } from "./loading";
import { SamplesView } from "./samples";
import { SampleView } from "./sample";
import { StatisticsView, STATISTICS } from "./statistics";
import { TreeView } from "./tree";

function Page() {
  const [address, setAddress] = useState(() => parse(new URL(location.href)));
  useEffect(() => onMove(() => setAddress(parse(new URL(location.href)))), []);
  const store = useLoaded(readStore, "store");
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        To the content
      </a>
      <header class="top">
        <a class="name" href={href([])} aria-label="rrti explorer, all samples">
          rrti<span>explorer</span>
        </a>
        {store.value && <Places store={store.value} address={address} />}
      </header>
      <main id="main" tabIndex={-1}>
        <Awaited of={store}>{(value) => <View store={value} address={address} />}</Awaited>
      </main>
    </>
  );
}

function skip(event: Event): void {
  event.preventDefault(); // the hash is an address in a static export
  document.getElementById("main")?.focus();
}

function Places({ store, address }: { store: StoreInfo; address: Address }) {
  const { route } = address;
  const current = (is: boolean): { "aria-current"?: "page" } => (is ? { "aria-current": "page" } : {});
  return (
    <>
      <nav aria-label="Views">
        <a href={href([])} {...current(route.view === "samples")}>
          Samples
        </a>
        {store.statistics.map((name) => (
          <a key={name} href={href(["statistics", name])} {...current(route.view === "statistics" && route.name === name)}>
            {STATISTICS[name] ?? name}
          </a>
        ))}
      </nav>
      <span class="store" title={store.name}>
        {store.name}
      </span>
    </>
  );
}

function View({ store, address }: { store: StoreInfo; address: Address }) {
  const { route, query } = address;
  switch (route.view) {
    case "samples":
      return <SamplesView store={store} query={query} />;
    case "sample":
      return <SampleView key={`${route.run}/${route.sample}`} store={store} run={route.run} sample={route.sample} query={query} />;
    case "compare":
      return <CompareView store={store} {...route} />;
    case "statistics":
      return <StatisticsView store={store} name={route.name} query={query} />;
    case "tree":
      return <TreeView store={store} run={route.run} sample={route.sample} />;
    case "unknown":
      return <Nowhere path={route.path} />;
  }
}

function Nowhere({ path }: { path: string }) {
  useTitle("Not found");
  return (
    <p class="trouble" role="alert">
      <strong>There is no view {path}.</strong> <a href={href([])}>All samples</a>
    </p>
  );
}

const root = document.getElementById("page") ?? document.body;
root.replaceChildren();
followLinks(root);
render(<Page />, root);
