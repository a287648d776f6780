"""Prints the key-pair token that snowflake-connector-python signs: snowflake_token.py ACCOUNT USER, PEM on stdin."""

import sys

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from snowflake.connector.auth import AuthByKeyPair

account, user = sys.argv[1:3]
key = load_pem_private_key(sys.stdin.buffer.read(), password=None)
print(AuthByKeyPair(private_key=key, lifetime_in_seconds=3540).prepare(account=account, user=user))
