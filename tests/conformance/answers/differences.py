"""Where the two brokers differ on purpose, and why. A difference that is not here is a defect of ours; one that is no more is to be taken out."""

ON_PURPOSE = {
    "configuration: an unknown operation": "Kafka says UNKNOWN_SERVER_ERROR, we say what is wrong with the request",
    "configuration: take back an unknown key": "a misspelt key is told, as when it is set",
    "a commit behind the abort of its transaction": "the client must learn that its transaction is lost (KAFKA-20785)",
}
