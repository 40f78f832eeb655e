//! The topology: departure delays per carrier and scheduled hour.
//!
//! Pure: it knows records and time, nothing of brokers or files. `main.rs` runs it; the test below runs it without a broker.

use std::time::Duration;

use flumen::streams::{
    Consumed, Grouped, KStream, Materialized, Produced, StreamsBuilder, TimeWindows,
    TimestampExtractor, Topology, TopologyError, Windowed, serdes,
};
use serde::{Deserialize, Serialize};

/// The columns of a flight that matter here; the source delivers all of them as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flight {
    carrier: String,
    /// Minutes; none for a cancelled flight.
    dep_delay: Option<i64>,
    /// The scheduled hour, RFC 3339.
    time_hour: String,
}

/// What the store keeps per carrier and hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sum {
    flights: i64,
    minutes: i64,
    max: i64,
}

/// A row of the result, as both sinks write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CarrierDelays {
    carrier: String,
    hour: String,
    flights: i64,
    mean_dep_delay: f64,
    max_dep_delay: i64,
}

/// Six readers of `flights` run side by side and each may be a season ahead of another while they catch up, so an hour may still get records long
/// after stream time has passed it. The result must not depend on who is ahead: no hour of a year's data is ever too old.
const GRACE: Duration = Duration::from_secs(400 * 24 * 3600);

/// `flights` in, `carrier-delays` out.
///
/// # Errors
/// None: the names below are distinct.
pub(crate) fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let flights: KStream<(), Flight> = builder.stream(
        "flights",
        Consumed::values(serdes::json()).timestamp_extractor(TimestampExtractor::from_value(
            |(): &(), flight: &Flight| scheduled_ms(flight),
        )),
    );
    flights
        .filter(|(), flight| flight.dep_delay.is_some())
        .group_by(
            |(), flight| flight.carrier.clone(),
            Grouped::with(serdes::string(), serdes::json()).named("by-carrier"),
        )
        .windowed_by(TimeWindows::of_size_and_grace(
            Duration::from_secs(3600),
            GRACE,
        ))
        .aggregate(
            || Sum::NOTHING,
            |_carrier, flight: Flight, sum: Sum| sum.and(flight.dep_delay.unwrap_or(0)),
            Materialized::as_("delays"),
        )
        .to_stream()
        .map(row)
        .to(
            "carrier-delays",
            Produced::with(serdes::string(), serdes::json()),
        );
    builder.build()
}

/// -1, which the stream refuses by its policy, if the hour is no RFC 3339 time.
fn scheduled_ms(flight: &Flight) -> i64 {
    let hour: Result<jiff::Timestamp, _> = flight.time_hour.parse();
    hour.map_or(-1, jiff::Timestamp::as_millisecond)
}

impl Sum {
    const NOTHING: Sum = Sum {
        flights: 0,
        minutes: 0,
        max: i64::MIN,
    };

    fn and(self, delay: i64) -> Sum {
        Sum {
            flights: self.flights + 1,
            minutes: self.minutes + delay,
            max: self.max.max(delay),
        }
    }
}

fn row(window: Windowed<String>, sum: Sum) -> (String, CarrierDelays) {
    let hour = jiff::Timestamp::from_millisecond(window.window.start)
        .map_or_else(|e| e.to_string(), |hour| hour.to_string());
    let delays = CarrierDelays {
        carrier: window.key.clone(),
        hour,
        flights: sum.flights,
        mean_dep_delay: sum.minutes as f64 / sum.flights as f64,
        max_dep_delay: sum.max,
    };
    (window.key, delays)
}

#[cfg(test)]
mod tests {
    use flumen::streams::TopologyTestDriver;

    use super::*;

    fn flight(carrier: &str, dep_delay: Option<i64>, time_hour: &str) -> Flight {
        Flight {
            carrier: carrier.to_owned(),
            dep_delay,
            time_hour: time_hour.to_owned(),
        }
    }

    #[test]
    fn cancelled_flights_do_not_count_and_late_ones_do() {
        let driver = TopologyTestDriver::new(topology().expect("distinct names"));
        let flights = driver.create_input_topic("flights", serdes::nothing(), serdes::json());
        let delays = driver.create_output_topic(
            "carrier-delays",
            serdes::string(),
            serdes::json::<CarrierDelays>(),
        );
        flights.pipe_input((), flight("UA", Some(10), "2013-01-02T10:00:00Z"), 0);
        flights.pipe_input((), flight("UA", None, "2013-01-02T10:00:00Z"), 0);
        flights.pipe_input((), flight("UA", Some(-3), "2013-12-31T10:00:00Z"), 0);
        flights.pipe_input((), flight("UA", Some(21), "2013-01-02T10:00:00Z"), 0);
        let last = delays.read_key_values().pop().expect("an update");
        assert_eq!(last.1.hour, "2013-01-02T10:00:00Z");
        assert_eq!(
            (last.1.flights, last.1.mean_dep_delay, last.1.max_dep_delay),
            (2, 15.5, 21)
        );
        assert_eq!(driver.dropped_late(), 0);
    }
}
