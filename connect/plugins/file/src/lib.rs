//! File source and exactly-once file sink for flumen-connect.
