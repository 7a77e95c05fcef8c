// Reads a granted secret, asks for a denied one, and records a metric.
// Built by scripts/toolchains.sh.
import { logMetric, parameters } from "strongroom:training/context@0.1.1";
import { getSecret } from "strongroom:training/secrets@0.1.1";

export function train() {
  const key = getSecret("key");
  console.log(`length of key: ${key.length}`);
  console.log(`value of key: ${key}`);
  try {
    getSecret("other");
  } catch (error) {
    console.log(`other: ${error.payload.tag} ${error.payload.val}`);
  }
  console.error(`parameters: ${JSON.stringify(Object.fromEntries(parameters()))}`);
  const values = [0, 0.25, 0.5, 0.75, 1];
  logMetric("mean", values.reduce((sum, value) => sum + value) / values.length, 1n);
}
