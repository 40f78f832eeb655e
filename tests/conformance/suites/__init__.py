"""Every suite, in the order in which they run."""
from suites import answers, clients, cluster, connect, directories, dump, groups, kills, records, streams, topics, transactions

ALL = [topics.SUITE, topics.CONFIGS, groups.SUITE, records.SUITE, records.OFFSETS, transactions.SUITE, cluster.SUITE, clients.SUITE,
       clients.PERFORMANCE, kills.SUITE, dump.SUITE, directories.SUITE, streams.SUITE, connect.SUITE, answers.SUITE]
