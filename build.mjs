// Bundles the console's modules and styles into content-hashed files and writes the manifest that pages read.
import { build } from "esbuild";
import { rmSync, writeFileSync } from "node:fs";

const out = "gateway/web/static/dist";
rmSync(out, { recursive: true, force: true });
const result = await build({
  entryPoints: ["gateway/web/ui/console.js", "gateway/web/ui/console.css", "gateway/web/ui/docs.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "linked",
  entryNames: "[name]-[hash]",
  outdir: out,
  metafile: true,
});
const manifest = {};
for (const [file, output] of Object.entries(result.metafile.outputs)) {
  if (output.entryPoint) manifest[output.entryPoint.replace(/^.*\//, "")] = file.replace(/^.*dist\//, "");
}
writeFileSync(`${out}/manifest.json`, JSON.stringify(manifest, null, 1));
