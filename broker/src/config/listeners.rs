//! Where the broker listens and what clients are told, out of Kafka's notation `NAME://host:port,…`. Pure; called once at the start.
//!
//! A properties file of a combined node names a listener for its controller beside the one for clients
//! (`controller.listener.names`). One node has its controller in the same process and needs no socket for it: that listener is
//! passed over. Exactly one remains, and its protocol (`listener.security.protocol.map`) is PLAINTEXT.

use std::borrow::Cow;

use super::{BrokerConfig, ConfigError};

/// A host and a port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl BrokerConfig {
    /// Where to listen. `PLAINTEXT://:9092` means every interface.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is no `PLAINTEXT://host:port`, beside listeners of the controller.
    pub fn listener(&self) -> Result<Endpoint, ConfigError> {
        let mut endpoint = self.client_endpoint("listeners", &self.listeners)?;
        if endpoint.host.is_empty() {
            "0.0.0.0".clone_into(&mut endpoint.host);
        }
        Ok(endpoint)
    }

    /// Where metrics and health are served, if anywhere.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is no `host:port`.
    pub fn http(&self) -> Result<Option<Endpoint>, ConfigError> {
        if self.http_listener.is_empty() {
            return Ok(None);
        }
        let name = "flumen.http.listener";
        let address = self.http_listener.rsplit("://").next().unwrap_or_default();
        let endpoint = host_and_port(address).map_err(|why| self.invalid(name, why))?;
        Ok(Some(endpoint))
    }

    /// What clients are told, unless it is the address the broker listens on.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is no `PLAINTEXT://host:port`, or names no host.
    pub fn advertised(&self) -> Result<Option<Endpoint>, ConfigError> {
        if self.advertised_listeners.is_empty() {
            return Ok(None);
        }
        let endpoint = self.client_endpoint("advertised.listeners", &self.advertised_listeners)?;
        if endpoint.host.is_empty() || endpoint.host == "0.0.0.0" {
            return Err(self.invalid("advertised.listeners", "clients need a host they can reach"));
        }
        Ok(Some(endpoint))
    }

    /// The one entry of `listeners` that is for clients.
    fn client_endpoint(&self, key: &str, listeners: &str) -> Result<Endpoint, ConfigError> {
        let controllers: Vec<&str> = words(&self.controller_listener_names).collect();
        let mut for_clients = words(listeners).filter(|listener| {
            let name = listener.split_once("://").map(|(name, _)| name);
            !name.is_some_and(|name| controllers.iter().any(|own| own.eq_ignore_ascii_case(name)))
        });
        let Some(listener) = for_clients.next() else {
            return Err(self.invalid(key, "no listener is left for clients"));
        };
        if for_clients.next().is_some() {
            let why = "one listener for clients for now; those that controller.listener.names names are passed over";
            return Err(self.invalid(key, why));
        }
        let address = match listener.split_once("://") {
            Some((name, address)) => {
                let protocol = self.protocol_of(name);
                if protocol != "PLAINTEXT" {
                    let why =
                        format!("{protocol} is not spoken yet, PLAINTEXT is (listener {name})");
                    return Err(self.invalid(key, why));
                }
                address
            }
            None => listener,
        };
        host_and_port(address).map_err(|why| self.invalid(key, why))
    }

    /// What is spoken on the listener of this name: what the map says, else its name is its protocol.
    fn protocol_of(&self, listener: &str) -> String {
        let mut mapped = words(&self.listener_security_protocol_map)
            .filter_map(|entry| entry.split_once(':'))
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case(listener));
        let protocol = mapped
            .next()
            .map_or(listener, |(_, protocol)| protocol.trim());
        protocol.to_ascii_uppercase()
    }

    fn invalid<'a>(&self, key: &str, why: impl Into<Cow<'a, str>>) -> ConfigError {
        ConfigError::Invalid {
            name: key.to_owned(),
            value: self.get(key).unwrap_or_default(),
            why: why.into().into_owned(),
        }
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn host_and_port(text: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or("must be PLAINTEXT://host:port")?;
    let port = port
        .parse()
        .map_err(|_| "the port must be a number below 65536")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Endpoint {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(properties: &[(&str, &str)]) -> Result<BrokerConfig, ConfigError> {
        BrokerConfig::from_properties(properties.iter().copied())
    }

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn advertised_listeners_must_name_a_host() {
        assert!(config(&[("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")]).is_err());
        let config = config(&[("listeners", "PLAINTEXT://:0")]).unwrap();
        assert_eq!(config.listener().unwrap(), endpoint("0.0.0.0", 0));
        assert_eq!(config.advertised().unwrap(), None);
    }

    #[test]
    fn the_controllers_listener_of_a_combined_node_is_passed_over() {
        let config = config(&[
            ("listeners", "CLIENTS://:9092,CONTROLLER://:9093"),
            (
                "advertised.listeners",
                "CLIENTS://kafka.example:9092,CONTROLLER://kafka.example:9093",
            ),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listener.security.protocol.map",
                "CONTROLLER:SSL,CLIENTS:PLAINTEXT",
            ),
        ])
        .unwrap();
        assert_eq!(config.listener().unwrap(), endpoint("0.0.0.0", 9092));
        let advertised = config.advertised().unwrap();
        assert_eq!(advertised, Some(endpoint("kafka.example", 9092)));
    }

    #[test]
    fn a_listener_that_is_not_plain_or_not_alone_is_refused_by_name() {
        let refused = |listeners| config(&[("listeners", listeners)]).unwrap_err().to_string();
        let why = refused("SSL://:9093");
        assert!(why.contains("SSL is not spoken yet"), "{why}");
        let why = refused("PLAINTEXT://:9092,INSIDE://:9093");
        assert!(why.contains("one listener for clients"), "{why}");
        let why = refused("PLAINTEXT://:port");
        assert!(why.contains("the port must be a number"), "{why}");
        let secret = config(&[
            ("listeners", "INSIDE://:9092"),
            ("listener.security.protocol.map", "INSIDE:SASL_SSL"),
        ]);
        assert!(secret.unwrap_err().to_string().contains("SASL_SSL"));
    }
}
