// Builds ../page out of source/: one script, one style sheet, and the licences of what is bundled. The same lock file gives
// the same bytes. `node build.mjs --out FOLDER` builds elsewhere, for a comparison.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const place = process.argv.indexOf("--out");
const out = place > 0 ? process.argv[place + 1] : join(here, "..", "page");

// What the page was built from, so that a test without Node finds a page that is older than its sources.
const digest = createHash("sha256");
const sources = (await readdir(join(here, "source"))).sort().map((name) => join("source", name));
for (const name of ["build.mjs", "package-lock.json", ...sources]) digest.update(await readFile(join(here, name)));
const banner = `/* rrti-sgl explorer, Apache-2.0; bundled libraries: LICENSES.txt. Built by "make page" from sources ${digest.digest("hex").slice(0, 16)}. */`;

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: [
    { in: "source/main.tsx", out: "explorer" },
    { in: "source/explorer.css", out: "explorer" },
  ],
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022", "chrome111", "firefox113", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  charset: "utf8",
  metafile: true,
  banner: { js: banner, css: banner },
});

const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[1]);
}
const licences = [];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const text = (await readFile(join(folder, "LICENSE"), "utf8")).trim();
  licences.push(`${name} ${version} (${license})\n\n${text}\n`);
}
await mkdir(out, { recursive: true });
await writeFile(join(out, "LICENSES.txt"), `Libraries bundled into explorer.js and explorer.css.\n\n${licences.join("\n\n")}`);
