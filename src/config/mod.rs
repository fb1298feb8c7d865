//! What did the user ask for? From YAML, command line and environment to [`settings::Settings`].

pub mod settings;
