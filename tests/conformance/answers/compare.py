"""Asks two brokers the same odd things and prints one line of JSON for each: what was asked, and both answers if they differ.

  compare.py OUR_ADDRESS KAFKAS_ADDRESS    (with the Python that has kafka-python)
"""
import importlib
import json
import sys
import time

from wire import Broker, comparable

ROOMS = ("topics", "records", "groups", "transactions")


def answer(broker, question):
    try:
        return comparable(question(broker))
    except (EOFError, TimeoutError) as why:
        return f"no answer: {type(why).__name__}"


def main():
    run = f"run{int(time.time())}"
    addresses = sys.argv[1:]
    for address in addresses:
        Broker(address, run).warm_up()
    for room in ROOMS:
        for what, question in importlib.import_module(room).QUESTIONS:
            ours, kafkas = (answer(Broker(address, run), question) for address in addresses)
            told = {"room": room, "asked": what}
            print(json.dumps(told if ours == kafkas else {**told, "ours": ours, "kafka": kafkas}), flush=True)


main()
