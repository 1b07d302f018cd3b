// The Node clients of the matrix: `client.js fetch|openai plain|stream BASE`.
import { readFileSync } from 'node:fs';
import OpenAI from 'openai';

const [name, wanted, base] = process.argv.slice(2);
const streams = wanted === 'stream';
const question = {
  model: 'test/small', max_tokens: 200, stream: streams, messages: [{ role: 'user', content: 'ASSAY-TOKENS: 40' }],
};

async function withFetch() {
  const answer = await fetch(`${base === '-' ? process.env.OPENAI_BASE_URL : base}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${process.env.OPENAI_API_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify(question),
  });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  if (!streams) return [(await answer.json()).choices[0].message.content];
  let text = '';
  for await (const bytes of answer.body.pipeThrough(new TextDecoderStream())) text += bytes;
  const events = text.split('\n').filter((line) => line.startsWith('data: ') && line !== 'data: [DONE]');
  return events.flatMap((line) => JSON.parse(line.slice(6)).choices).map((choice) => choice.delta.content);
}

async function withOpenai() {
  const client = base === '-' ? new OpenAI() : new OpenAI({ baseURL: base });
  const answer = await client.chat.completions.create(question);
  if (!streams) return [answer.choices[0].message.content];
  const parts = [];
  for await (const chunk of answer) parts.push(...chunk.choices.map((choice) => choice.delta.content));
  return parts;
}

const parts = (await (name === 'fetch' ? withFetch() : withOpenai())).filter(Boolean);
const openai = JSON.parse(readFileSync(new URL('node_modules/openai/package.json', import.meta.url)));
const version = name === 'fetch' ? process.version.slice(1) : openai.version;
console.log(JSON.stringify({ version, pieces: parts.length, text: parts.join('') }));
