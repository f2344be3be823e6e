// An Express app whose sessions are cookie-session's. Its one argument says how, as JSON; it prints its port, and ends
// when its standard input does.

import express from 'express'
import { session } from './session.mjs'

const config = JSON.parse(process.argv[2])

const routes = express.Router()
routes.get('/read', (req, res) => res.json(report(req)))
routes.post('/set', express.json({ limit: '1mb' }), (req, res) => {
  req.session = req.body
  res.json(report(req))
})
routes.post('/add', (req, res) => {
  req.session.views = (req.session.views ?? 0) + 1
  res.json(report(req))
})
routes.post('/logout', (req, res) => {
  req.session = null
  res.json({ session: {}, isNew: true })
})

function report ({ session }) {
  return { session, isNew: session.isNew }
}

const app = express()
// TLS ends before it.
app.set('trust proxy', 'loopback')
app.use(session(config))
app.use(routes)
// For cookies that are not for all paths.
app.use('/app', routes)

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.on('end', () => process.exit()).resume()
