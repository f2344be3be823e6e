// The real middleware, as a JSON object describes it.

import cookieSession from 'cookie-session'
import Keygrip from 'keygrip'

// `keys` are octets as hexadecimal, the newest first; `options` are cookie-session's own.
export function session ({ name, keys, algorithm, encoding, options = {} }) {
  const octets = keys.map((key) => Buffer.from(key, 'hex'))
  return cookieSession({ name, keys: new Keygrip(octets, algorithm, encoding), ...options })
}
