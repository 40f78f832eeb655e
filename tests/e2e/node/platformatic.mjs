// @platformatic/kafka: administration, an idempotent producer, two members of a group, against the broker named first.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

// The modules lie where the set-up put them, not beside this file.
const require = createRequire(process.env.NODE_MODULES_BASE + '/')
const { Admin, Consumer, Producer, stringSerializers, stringDeserializers } = require('@platformatic/kafka')

const bootstrapBrokers = [process.argv[2]]
const admin = new Admin({ clientId: 'node-admin', bootstrapBrokers })
await admin.createTopics({ topics: ['node'], partitions: 3, replicas: 1 })
assert.ok((await admin.listTopics()).includes('node'))

const producer = new Producer({ clientId: 'node-producer', bootstrapBrokers, serializers: stringSerializers, idempotent: true })
const written = []
for (let n = 0; n < 90; n++) {
  const value = `value-${n}`
  await producer.send({ messages: [{ topic: 'node', key: `k${n}`, value, partition: n % 3, headers: { h: '1' } }] })
  written.push(value)
}
await producer.close()

function member (id) {
  return new Consumer({ clientId: id, groupId: 'node-group', bootstrapBrokers, deserializers: stringDeserializers, sessionTimeout: 10_000 })
}
const members = [member('one'), member('two')]
const seen = new Map()
let done
const all = new Promise(resolve => { done = resolve })
for (const consumer of members) {
  const stream = await consumer.consume({ topics: ['node'], autocommit: false, mode: 'earliest', maxWaitTime: 200 })
  stream.on('data', message => {
    assert.equal(message.headers.get('h'), '1')
    seen.set(`${message.partition}:${message.offset}`, message.value)
    // A commit that crosses a rebalance is refused, as by any broker: the record is read again.
    message.commit().catch(error => { if (!error.findBy?.('needsRejoin', true)) throw error })
    if (seen.size === written.length) done()
  })
}
const patience = setTimeout(() => { console.error(`saw ${seen.size}`); process.exit(1) }, 60_000)
await all
clearTimeout(patience)
assert.deepEqual([...seen.values()].sort(), [...written].sort())
for (const consumer of members) await consumer.close(true)

const groups = await admin.describeGroups({ groups: ['node-group'] })
assert.ok(groups.has('node-group'))
await admin.deleteTopics({ topics: ['node'] })
await admin.close()
console.log('ok')
process.exit(0)
