// face-api.js in Node, without a canvas: node benchmarks/face_api.mjs PACKAGE [BACKEND] [WHAT]
// PACKAGE is the folder of @vladmandic/face-api. BACKEND: cpu, plain JavaScript (default), or wasm, which needs
// @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm beside it. WHAT: chips (default), AgeGenderNet on each image, or
// photos, all faces by its default detector, their landmarks, then AgeGenderNet.
// stdin: for each image height and width as uint32 (little endian), then its RGB bytes. stdout: one JSON line an image:
// age in years, gender, genderProbability, or for photos {"faces": [these]}.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const folder = path.resolve(process.argv[2]);
const [backend, what] = [process.argv[3] ?? 'cpu', process.argv[4] ?? 'chips'];
function pretendToBeABrowser() {
  class Absent {}
  const absent = ['HTMLCanvasElement', 'HTMLImageElement', 'HTMLVideoElement', 'ImageData', 'CanvasRenderingContext2D', 'Image'];
  Object.assign(globalThis, Object.fromEntries(absent.map((name) => [name, Absent])));
  Object.assign(globalThis, { window: globalThis, document: { createElement: () => new Absent(), body: {} } });
}

async function load() {
  const require = createRequire(`${folder}/package.json`);
  if (backend === 'wasm') {
    const tf = require('@tensorflow/tfjs');
    const wasm = require('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json'))}/dist/`, true);
    globalThis.fetch = async (file) => new Response(fs.readFileSync(file), { headers: { 'content-type': 'application/wasm' } });
    await tf.setBackend('wasm'); // before it takes Node for a browser
  }
  pretendToBeABrowser();
  return backend === 'wasm' ? require(`${folder}/dist/face-api.node-wasm.js`) : import(`${folder}/dist/face-api.esm.js`);
}

const faceapi = await load();
await faceapi.tf.setBackend(backend);
await faceapi.tf.ready();
faceapi.env.setEnv({ ...faceapi.env.createBrowserEnv(), readFile: async (file) => fs.readFileSync(file) });
const nets = faceapi.nets;
const used = what === 'photos' ? [nets.ssdMobilenetv1, nets.faceLandmark68Net, nets.ageGenderNet] : [nets.ageGenderNet];
for (const net of used) await net.loadFromDisk(`${folder}/model`);

async function answer(image) {
  if (what !== 'photos') return nets.ageGenderNet.predictAgeAndGender(image);
  const found = await faceapi.detectAllFaces(image, new faceapi.SsdMobilenetv1Options()).withFaceLandmarks().withAgeAndGender();
  return { faces: found.map(({ age, gender, genderProbability }) => ({ age, gender, genderProbability })) };
}

function read(count) {
  const bytes = Buffer.alloc(count);
  for (let have = 0; have < count; ) {
    let got = 0;
    try {
      got = fs.readSync(0, bytes, have, count - have);
    } catch (error) {
      if (error.code === 'EAGAIN') continue;
      throw error;
    }
    if (!got) return null;
    have += got;
  }
  return bytes;
}

for (let header = read(8); header; header = read(8)) {
  const [height, width] = [header.readUInt32LE(0), header.readUInt32LE(4)];
  const image = faceapi.tf.tensor3d(new Float32Array(read(height * width * 3)), [height, width, 3]);
  console.log(JSON.stringify(await answer(image)));
  image.dispose();
}
