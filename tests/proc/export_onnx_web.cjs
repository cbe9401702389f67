// One run of onnxruntime-web for export_onnx.py: node export_onnx_web.cjs FOLDER-WITH-node_modules FILE.onnx, inputs as JSON on standard input.
const fs = require("fs");
const path = require("path");
const ort = require(path.join(process.argv[2], "node_modules", "onnxruntime-web", "dist", "ort.node.min.js"));

async function main() {
    ort.env.wasm.numThreads = 1;
    const request = JSON.parse(fs.readFileSync(0, "utf8"));
    const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(process.argv[3])));
    const feeds = {};
    for (const [name, v] of Object.entries(request)) {
        feeds[name] = new ort.Tensor("int64", BigInt64Array.from(v.data.map(BigInt)), v.dims);
    }
    const logits = (await session.run(feeds)).logits;
    console.log(JSON.stringify({ dims: logits.dims, data: Array.from(logits.data) }));
}
main().catch((why) => { console.error(why); process.exit(1); });
