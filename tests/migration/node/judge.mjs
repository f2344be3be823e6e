// What the real cookie-session makes of cookies: for each line of standard input, a JSON object, one line of standard
// output. Each case is a request over a socket to an Express app, so that Node parses the headers too.
//
// in:  { name, keys, algorithm, encoding, options, headers }   as in session.mjs; the octets of each Cookie header
//                                                              as hexadecimal
// out: { status, isNew, session }                              session: the text below; without both if the request
//                                                              did not come through
//
// The text of a value keeps what JSON.stringify would not: numbers are `#` and the 16 digits of the double, keys are
// sorted by their octets, and half a surrogate pair stays one.

import express from 'express'
import http from 'node:http'
import readline from 'node:readline'
import { session } from './session.mjs'

// More at a time would not be quicker.
const CONNECTIONS = 8

function text (value) {
  if (typeof value === 'number') {
    const octets = Buffer.alloc(8)
    octets.writeDoubleBE(value)
    return `#${octets.toString('hex')}`
  }
  if (Array.isArray(value)) return `[${value.map(text).join()}]`
  if (value !== null && typeof value === 'object') {
    const keys = Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    return `{${keys.map((key) => `${JSON.stringify(key)}:${text(value[key])}`).join()}}`
  }
  return JSON.stringify(value)
}

const middlewares = new Map()
const app = express()
app.use((req, res, next) => middlewares.get(req.headers['x-case'])(req, res, next))
app.get('/', (req, res) => res.json({ isNew: req.session.isNew, session: text(req.session) }))
const server = app.listen(0, '127.0.0.1', judge)

async function judge () {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  let cases = 0
  let printed
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answer = ask(agent, String(cases++), JSON.parse(line))
    printed = Promise.all([answer, printed]).then(([answer]) => console.log(JSON.stringify(answer)))
  }
  await printed
  process.exit()
}

function ask (agent, id, { headers, ...config }) {
  middlewares.set(id, session(config))
  const cookies = headers.flatMap((header) => ['Cookie', Buffer.from(header, 'hex').toString('latin1')])
  const options = { agent, port: server.address().port, headers: ['Host', 'judge', 'X-Case', id, ...cookies] }
  return new Promise((resolve, reject) => {
    http.get(options, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (data) => { body += data }).on('end', () => {
        middlewares.delete(id)
        const status = response.statusCode
        resolve(status === 200 ? { status, ...JSON.parse(body) } : { status })
      })
    }).on('error', reject)
  })
}
