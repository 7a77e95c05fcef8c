// Packages guest.js as a component: node build.mjs WIT_DIR OUTPUT
import { writeFile } from "node:fs/promises";

import { componentize } from "@bytecodealliance/componentize-js";

const [witPath, output] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath: "guest.js",
  witPath,
  worldName: "plugin",
  // With either of them the component imports wasi:http, which strongroom does not provide.
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(output, component);
