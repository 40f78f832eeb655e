"""aiokafka: idempotent and transactional producers, two members of one group, read_committed, against the broker named first."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

broker = sys.argv[1]


async def read(count, topic, **more):
    """The next records of a topic; at least `count` of them."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest", **more)
    await consumer.start()
    records = []
    while len(records) < count:
        for batch in (await asyncio.wait_for(consumer.getmany(timeout_ms=1_000), 30)).values():
            records += batch
    await consumer.stop()
    return records


async def records_and_codecs():
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True, compression_type=codec)
        await producer.start()
        for n in range(20):
            await producer.send_and_wait("aio", f"{codec}-{n}".encode(), key=b"k", headers=[("h", b"1")], partition=0)
        await producer.stop()
    found = await read(100, "aio")
    assert [r.offset for r in found] == list(range(100))
    assert {r.headers for r in found} == {(("h", b"1"),)}


async def two_members():
    members = []
    for _ in range(2):
        member = AIOKafkaConsumer("aio", bootstrap_servers=broker, group_id="aio-group", session_timeout_ms=10_000,
                                  auto_offset_reset="earliest")
        await member.start()
        members.append(member)
    owned = []
    for _ in range(300):
        owned = [member.assignment() for member in members]
        # One member may still show what it had while the other has its share.
        if all(owned) and sorted(place.partition for mine in owned for place in mine) == [0, 1, 2, 3]:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(owned)
    for member in members:
        await member.stop()


async def transactions():
    producer = AIOKafkaProducer(bootstrap_servers=broker, transactional_id="aio-txn")
    await producer.start()
    for keep in (False, True):
        await producer.begin_transaction()
        await producer.send_and_wait("aio-out", str(keep).encode(), partition=0)
        await producer.send_offsets_to_transaction({TopicPartition("aio", 0): 5 if keep else 9}, "aio-offsets")
        await (producer.commit_transaction() if keep else producer.abort_transaction())
    await producer.stop()
    assert [r.value for r in await read(1, "aio-out", isolation_level="read_committed")] == [b"True"]
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id="aio-offsets")
    await consumer.start()
    assert await consumer.committed(TopicPartition("aio", 0)) == 5
    await consumer.stop()


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_topics([NewTopic("aio", 4, 1), NewTopic("aio-out", 1, 1)])
    await records_and_codecs()
    await two_members()
    await transactions()
    await admin.close()


asyncio.run(main())
print("ok")
