"""Apache Kafka's programs: fetched by Maven into the cache, found by short names, run as child processes.

Owns the cache folder and the Java command line. Knows nothing about what a test expects.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = re.search(r"<kafka.version>(.*?)</kafka.version>", open(os.path.join(HERE, "pom.xml")).read()).group(1)
PATIENCE = 120  # seconds that anything may take on a busy machine of two cores

TOOLS = "org.apache.kafka.tools"
CLASSES = {
    "acls": f"{TOOLS}.AclCommand",
    "broker-api-versions": f"{TOOLS}.BrokerApiVersionsCommand",
    "client-compatibility": f"{TOOLS}.ClientCompatibilityTest",
    "cluster": f"{TOOLS}.ClusterTool",
    "configs": "kafka.admin.ConfigCommand",
    "connect-distributed": "org.apache.kafka.connect.cli.ConnectDistributed",
    "connect-standalone": "org.apache.kafka.connect.cli.ConnectStandalone",
    "console-consumer": f"{TOOLS}.consumer.ConsoleConsumer",
    "console-producer": f"{TOOLS}.ConsoleProducer",
    "console-share-consumer": f"{TOOLS}.consumer.ConsoleShareConsumer",
    "consumer-groups": f"{TOOLS}.consumer.group.ConsumerGroupCommand",
    "consumer-perf": f"{TOOLS}.ConsumerPerformance",
    "delete-records": f"{TOOLS}.DeleteRecordsCommand",
    "dump-log": f"{TOOLS}.DumpLogSegments",
    "end-to-end-latency": f"{TOOLS}.EndToEndLatency",
    "features": f"{TOOLS}.FeatureCommand",
    "get-offsets": f"{TOOLS}.GetOffsetShell",
    "groups": f"{TOOLS}.GroupsCommand",
    "leader-election": f"{TOOLS}.LeaderElectionCommand",
    "log-compaction": f"{TOOLS}.LogCompactionTester",
    "log-dirs": f"{TOOLS}.LogDirsCommand",
    "metadata-quorum": f"{TOOLS}.MetadataQuorumCommand",
    "producer-perf": f"{TOOLS}.ProducerPerformance",
    "reassign-partitions": f"{TOOLS}.reassign.ReassignPartitionsCommand",
    "server": "kafka.Kafka",
    "share-groups": f"{TOOLS}.consumer.group.ShareGroupCommand",
    "storage": "kafka.tools.StorageTool",
    "streams-groups": f"{TOOLS}.streams.StreamsGroupCommand",
    "streams-reset": f"{TOOLS}.StreamsResetter",
    "topics": f"{TOOLS}.TopicCommand",
    "transactional-copier": f"{TOOLS}.TransactionalMessageCopier",
    "transactions": f"{TOOLS}.TransactionsCommand",
    "verifiable-consumer": f"{TOOLS}.VerifiableConsumer",
    "verifiable-producer": f"{TOOLS}.VerifiableProducer",
}


def cache():
    base = os.environ.get("FLUMEN_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "flumen")
    return os.path.join(base, "kafka")


def missing():
    """What this machine lacks, as sentences with the way out."""
    found = []
    java = shutil.which("java")
    if java:
        told = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
        version = re.search(r'version "(\d+)', told)
        if not version or int(version.group(1)) < 17:
            found.append(f"Java 17 or newer (found: {told.splitlines()[0] if told else 'none'}): apt-get install -y openjdk-17-jdk-headless")
    else:
        found.append("Java 17: apt-get install -y openjdk-17-jdk-headless")
    if java and not shutil.which("javac"):
        found.append("Java's compiler: apt-get install -y openjdk-17-jdk-headless")
    if not shutil.which("mvn"):
        found.append("Maven: apt-get install -y maven")
    return found


def setup():
    """Fetches the jars and compiles the programs in `java/`; does only what is not done yet."""
    jars, classes = os.path.join(cache(), "jars"), os.path.join(cache(), "classes")
    os.makedirs(cache(), exist_ok=True)
    pom = os.path.join(HERE, "pom.xml")
    if _changed("jars", [pom]):
        print("conformance: fetching Apache Kafka from Maven Central (about 150 MB)", file=sys.stderr)
        shutil.rmtree(jars, ignore_errors=True)
        made = subprocess.run(["mvn", "-q", "-B", "-Dstyle.color=never", "-f", pom, f"-Dout={cache()}", "package"])
        if made.returncode:
            sys.exit("conformance: Maven could not fetch what tests/conformance/pom.xml lists; see its message above")
        _done("jars", [pom])
    java = os.path.join(HERE, "java")
    sources = sorted(os.path.join(java, name) for name in os.listdir(java) if name.endswith(".java"))
    ours = os.path.join(jars, "conformance.jar")
    if _changed("classes", [pom, *sources]) or not os.path.exists(ours):
        shutil.rmtree(classes, ignore_errors=True)
        subprocess.run(["javac", "-nowarn", "-d", classes, "-cp", os.path.join(jars, "*"), *sources], check=True)
        subprocess.run(["jar", "cf", ours, "-C", classes, "."], check=True)
        if os.path.exists(_archive()):
            os.remove(_archive())
        _done("classes", [pom, *sources])


def _archive():
    return os.path.join(cache(), "classes.jsa")


def warm_up(address):
    """Keeps the classes that a client loads in an archive, once: every JVM after that starts with half the CPU."""
    if not os.path.exists(_archive()):
        arguments = command("console-consumer", "--bootstrap-server", address, "--topic", "warm-up", "--timeout-ms", 3000)
        subprocess.run([arguments[0], f"-XX:ArchiveClassesAtExit={_archive()}", *arguments[1:]], capture_output=True)


def _stamp(files):
    digest = hashlib.sha256()
    for path in files:
        digest.update(open(path, "rb").read())
    return digest.hexdigest()


def _changed(name, files):
    path = os.path.join(cache(), f"{name}.stamp")
    return not os.path.exists(path) or open(path).read() != _stamp(files)


def _done(name, files):
    with open(os.path.join(cache(), f"{name}.stamp"), "w") as stamp:
        stamp.write(_stamp(files))


def command(program, *arguments, heap="256m", level="WARN"):
    """The command line of one of Kafka's programs (or of a class in `java/`)."""
    archive = [f"-XX:SharedArchiveFile={_archive()}"] if os.path.exists(_archive()) else []
    return ["java", *archive, f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dkafka.log={level}",
            f"-Dlog4j2.configurationFile={os.path.join(HERE, 'log4j2.yaml')}", "-cp", os.path.join(cache(), "jars", "*"),
            CLASSES.get(program, program), *map(str, arguments)]


class Failed(AssertionError):
    """A program did not do what was expected; the text says which and what it said."""


class Output(str):
    """Everything a program wrote; `out` is its stdout alone."""
    out = ""


def run(program, *arguments, input="", ok=True):
    """Runs a program to its end. `ok`: whether it has to succeed (None: either)."""
    done = subprocess.run(command(program, *arguments), input=input, capture_output=True, text=True, timeout=PATIENCE)
    output = Output(done.stdout + done.stderr)
    output.out = done.stdout
    if ok is not None and (done.returncode == 0) != ok:
        raise Failed(f"{program} {' '.join(map(str, arguments))}: exit {done.returncode}: {output.strip()[-2000:]}")
    return output


class Process:
    """A program that goes on beside the test; its lines can be waited for."""

    def __init__(self, program, *arguments, heap="512m", cwd=None):
        self.name = program
        self.child = subprocess.Popen(command(program, *arguments, heap=heap), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, cwd=cwd)
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, fact, what, patience=PATIENCE):
        """Waits until `fact(lines)` is true."""
        deadline = time.monotonic() + patience
        while not fact(self.lines):
            if time.monotonic() > deadline or (self.child.poll() is not None and not self.reader.is_alive() and not fact(self.lines)):
                raise Failed(f"{self.name}: waited in vain for {what}: " + "\n".join(self.lines[-15:]))
            time.sleep(0.05)

    def says(self, text, patience=PATIENCE):
        self.until(lambda lines: any(text in line for line in lines), repr(text), patience)

    def kill(self):
        """kill -9."""
        self.child.kill()
        self.child.wait()
        self.reader.join(5)

    def stop(self, patience=PATIENCE):
        """SIGTERM, then wait for the end."""
        self.child.terminate()
        self.end(patience)

    def end(self, patience=PATIENCE):
        """Waits for the end; the exit code."""
        try:
            code = self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} did not end: " + "\n".join(self.lines[-15:]))
        self.reader.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.kill()
        self.child.stdin.close()
