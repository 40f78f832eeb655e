// kafkajs, dead and everywhere: the old versions of the protocol it speaks, against the broker named first.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

// The modules lie where the set-up put them, not beside this file.
const require = createRequire(process.env.NODE_MODULES_BASE + '/')
const { Kafka, logLevel, CompressionTypes } = require('kafkajs')

const kafka = new Kafka({ clientId: 'js', brokers: [process.argv[2]], logLevel: logLevel.ERROR })
const admin = kafka.admin()
await admin.connect()
await admin.createTopics({ topics: [{ topic: 'js', numPartitions: 2 }], waitForLeaders: true })

const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
await producer.connect()
const messages = Array.from({ length: 50 }, (_, n) => ({ key: `k${n}`, value: `v${n}`, partition: n % 2, headers: { h: '1' } }))
await producer.send({ topic: 'js', messages, compression: CompressionTypes.GZIP })
await producer.disconnect()

const transactional = kafka.producer({ transactionalId: 'js-txn', idempotent: true, maxInFlightRequests: 1 })
await transactional.connect()
for (const keep of [false, true]) {
  const transaction = await transactional.transaction()
  await transaction.send({ topic: 'js', messages: [{ value: `txn-${keep}`, partition: 0 }] })
  await transaction.sendOffsets({ consumerGroupId: 'js-offsets', topics: [{ topic: 'js', partitions: [{ partition: 0, offset: keep ? '5' : '9' }] }] })
  await (keep ? transaction.commit() : transaction.abort())
}
await transactional.disconnect()
const [{ partitions: committed }] = await admin.fetchOffsets({ groupId: 'js-offsets', topics: ['js'] })
assert.equal(committed.find(p => p.partition === 0).offset, '5')

const consumer = kafka.consumer({ groupId: 'js-group', sessionTimeout: 10_000 })
await consumer.connect()
await consumer.subscribe({ topics: ['js'], fromBeginning: true })
const seen = []
let done
const all = new Promise(resolve => { done = resolve })
await consumer.run({
  eachMessage: async ({ message }) => {
    seen.push(message.value.toString())
    if (seen.length === 51) done()
  }
})
const patience = setTimeout(() => { console.error(`saw ${seen.length}`); process.exit(1) }, 60_000)
await all
clearTimeout(patience)
assert.deepEqual(seen.filter(value => value.startsWith('txn')), ['txn-true'])
await consumer.disconnect()
const { groups } = await admin.describeGroups(['js-group'])
assert.equal(groups[0].state, 'Empty')
await admin.deleteGroups(['js-group'])
await admin.deleteTopics({ topics: ['js'] })
await admin.disconnect()
console.log('ok')
