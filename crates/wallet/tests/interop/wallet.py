"""A wallet made of other people's code: one JSON request a line on standard input, one JSON answer a line."""

import json
import sys
import traceback

import ecies
from eth_account import Account
from eth_account.messages import encode_defunct


def sign(request):
    account = Account.create()
    signed = account.sign_message(encode_defunct(text=request["text"]))
    return {"secret": account.key.hex(), "address": account.address, "signature": signed.signature.hex()}


def recover(request):
    message = encode_defunct(text=request["text"])
    return {"address": Account.recover_message(message, signature=bytes.fromhex(request["signature"]))}


def encrypt(request):
    return {"sealed": ecies.encrypt(request["public"], bytes.fromhex(request["plaintext"])).hex()}


def decrypt(request):
    return {"plaintext": ecies.decrypt(request["secret"], bytes.fromhex(request["sealed"])).hex()}


def keystore_write(request):
    account = Account.create()
    file = account.encrypt(request["password"], kdf=request["kdf"], iterations=request["iterations"])
    return {"secret": account.key.hex(), "address": account.address, "file": json.dumps(file)}


def keystore_open(request):
    try:
        return {"secret": Account.decrypt(request["file"], request["password"]).hex()}
    except ValueError as error:
        return {"refused": str(error)}


ACTIONS = {action.__name__: action for action in (sign, recover, encrypt, decrypt, keystore_write, keystore_open)}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = ACTIONS[request["do"]](request)
    except Exception:
        answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
