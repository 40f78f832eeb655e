// franz-go: idempotent records, a transaction that aborts and one that commits, two members of a group, administration, against
// the broker named first.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const records = 200

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append(options, kgo.SeedBrokers(os.Args[1]))...)
	check(err)
	return made
}

func main() {
	patience, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	plain := client()
	defer plain.Close()
	admin := kadm.NewClient(plain)
	_, err := admin.CreateTopics(patience, 4, 1, nil, "go", "go-out")
	check(err)
	for n := range records {
		record := &kgo.Record{Topic: "go", Key: fmt.Appendf(nil, "k%d", n), Value: fmt.Appendf(nil, "v%d", n)}
		check(plain.ProduceSync(patience, record).FirstErr())
	}
	transactions(patience)
	twoMembers(patience)
	administration(patience, admin)
	fmt.Println("ok")
}

// transactions writes one that must not be seen and one that must.
func transactions(patience context.Context) {
	producer := client(kgo.TransactionalID("go-txn"))
	defer producer.Close()
	for _, keep := range []bool{false, true} {
		check(producer.BeginTransaction())
		record := &kgo.Record{Topic: "go-out", Value: fmt.Appendf(nil, "%v", keep)}
		check(producer.ProduceSync(patience, record).FirstErr())
		check(producer.EndTransaction(patience, kgo.TransactionEndTry(keep)))
	}
	consumer := client(kgo.ConsumeTopics("go-out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer consumer.Close()
	fetches := consumer.PollFetches(patience)
	check(fetches.Err())
	for _, record := range fetches.Records() {
		if string(record.Value) != "true" {
			log.Fatalf("read %q of an aborted transaction", record.Value)
		}
	}
}

// twoMembers reads everything once while a second member joins.
func twoMembers(patience context.Context) {
	seen := map[string]bool{}
	member := func() *kgo.Client {
		return client(kgo.ConsumerGroup("go-group"), kgo.ConsumeTopics("go"), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second))
	}
	poll := func(consumer *kgo.Client, most int) {
		fetches := consumer.PollRecords(patience, most)
		check(fetches.Err0())
		for _, record := range fetches.Records() {
			seen[fmt.Sprint(record.Partition, ":", record.Offset)] = true
		}
		// A commit that crosses a rebalance is refused, as by any broker: its records are read again.
		err := consumer.CommitRecords(patience, fetches.Records()...)
		if !errors.Is(err, kerr.RebalanceInProgress) && !errors.Is(err, kerr.IllegalGeneration) {
			check(err)
		}
	}
	one := member()
	poll(one, 10)
	two := member()
	poll(two, 10)
	one.Close()
	for len(seen) < records {
		poll(two, records)
	}
	two.Close()
}

// administration uses what tools use.
func administration(patience context.Context, admin *kadm.Client) {
	lags, err := admin.Lag(patience, "go-group")
	check(err)
	check(lags.Error())
	value := "3600000"
	_, err = admin.AlterTopicConfigs(patience, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, "go")
	check(err)
	partitions, err := admin.UpdatePartitions(patience, 6, "go")
	check(err)
	check(partitions.Error())
	ends, err := admin.ListEndOffsets(patience, "go")
	check(err)
	deleted, err := admin.DeleteRecords(patience, ends.Offsets())
	check(err)
	check(deleted.Error())
	_, err = admin.DescribeAllLogDirs(patience, nil)
	check(err)
	_, err = admin.ListTransactions(patience, nil, nil)
	check(err)
	groups, err := admin.DeleteGroups(patience, "go-group")
	check(err)
	check(groups.Error())
	_, err = admin.DeleteTopics(patience, "go", "go-out")
	check(err)
}
