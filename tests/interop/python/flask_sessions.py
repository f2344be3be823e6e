"""Flask's own sessions, for tests/flask.rs: one JSON object a line in, one out.

    {"do": "set", "secret_key": "…", "session": {…}, "now": 1800000000}         {"cookie": "…"}
    {"do": "read", "secret_key": "…", "cookie": "…", "now": 1800000000}         {"session": {…}}

A session that Flask does not accept is an empty one.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest import mock

from flask import Flask, jsonify, request, session

app = Flask(__name__)


@app.post("/set")
def set_session() -> str:
    session.update(request.get_json())
    return ""


@app.get("/read")
def read_session() -> Any:
    return jsonify(dict(session))


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    app.secret_key = asked["secret_key"]
    client = app.test_client(use_cookies=False)
    # The clock that its signatures go by.
    with mock.patch("itsdangerous.timed.time.time", return_value=float(asked["now"])):
        if asked["do"] == "set":
            response = client.post("/set", json=asked["session"])
            (cookie,) = response.headers.getlist("Set-Cookie")
            return {"cookie": cookie.split(";")[0]}
        response = client.get("/read", headers={"Cookie": asked["cookie"]})
        return {"session": response.get_json()}


def main() -> None:
    for line in sys.stdin.buffer:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
