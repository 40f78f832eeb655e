//! The Flumen broker: partitions, controller, coordinators, server.
