"""Produces numbered records with an idempotent producer until a file appears; writes `partition number offset` for every acknowledgement, as it comes."""
import os
import sys
import time
from confluent_kafka import Producer

bootstrap, topic, acked_path, stop_path = sys.argv[1:]
acked = open(acked_path, "w", buffering=1)
failed = []


def delivered(error, message):
    if error:
        failed.append(str(error))
    else:
        acked.write(f"{message.partition()} {message.value().decode()} {message.offset()}\n")


producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2, "acks": "all",
                     "delivery.timeout.ms": 120_000, "request.timeout.ms": 5_000, "reconnect.backoff.max.ms": 200,
                     "queue.buffering.max.messages": 20_000})
number = 0
while not os.path.exists(stop_path):
    try:
        producer.produce(topic, str(number), partition=number % 3, on_delivery=delivered)
        number += 1
    except BufferError:
        producer.poll(0.05)
    producer.poll(0)
    if number % 50 == 0:
        time.sleep(0.005)  # load, not as much as the machine can bear: every restart is checked from the beginning
left = producer.flush(90)
assert left == 0 and not failed, (left, failed[:3])
print(number)
