"""Serves a table as a CSV file over TLS on loopback: https_files.py FOLDER CERTIFICATE KEY PORT_FILE

FOLDER/orders.csv is written first: 50 rows. The chosen port is written to PORT_FILE.
"""

import functools
import http.server
import os
import pathlib
import ssl
import sys

folder, certificate, key, port_file = sys.argv[1:]
rows = "".join(f"{row},order {row}\n" for row in range(50))
(pathlib.Path(folder) / "orders.csv").write_text(f"id,name\n{rows}", encoding="utf-8")
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
draft = pathlib.Path(f"{port_file}.new")
draft.write_text(str(server.server_address[1]), encoding="utf-8")
os.replace(draft, port_file)
server.serve_forever()
