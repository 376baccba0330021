// AgeGenderNet of face-api.js in Node, on its plain JavaScript backend: node benchmarks/face_api.mjs PACKAGE
// PACKAGE is the folder of @vladmandic/face-api. stdin: for each image height and width as uint32 (little endian), then
// its RGB bytes. stdout: one JSON line an image: age in years, gender, genderProbability.
import fs from 'node:fs';
import path from 'node:path';

const folder = path.resolve(process.argv[2]);
class Absent {}
const absent = ['HTMLCanvasElement', 'HTMLImageElement', 'HTMLVideoElement', 'ImageData', 'CanvasRenderingContext2D', 'Image'];
Object.assign(globalThis, Object.fromEntries(absent.map((name) => [name, Absent])));
Object.assign(globalThis, { window: globalThis, document: { createElement: () => new Absent(), body: {} } });
const faceapi = await import(`${folder}/dist/face-api.esm.js`);
await faceapi.tf.setBackend('cpu');
await faceapi.tf.ready();
faceapi.env.setEnv({ ...faceapi.env.createBrowserEnv(), readFile: async (file) => fs.readFileSync(file) });
const net = new faceapi.AgeGenderNet();
await net.loadFromDisk(`${folder}/model`);

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
  console.log(JSON.stringify(await net.predictAgeAndGender(image)));
  image.dispose();
}
