//! The parameters of a call.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};
use vusb::drivers::When;

use crate::Failure;

/// The longest wait that a caller may ask for.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

/// The parameters of a call. Each is taken once; a parameter that remains is an error.
#[derive(Debug)]
pub struct Parameters(Map<String, Value>);

/// How a call is carried out: `CallOptions` of the interface.
#[derive(Debug, Default)]
pub struct CallOptions {
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// Whether refusals are overridden.
    pub force: bool,
    /// The limit of a single wait: one millisecond to one day.
    pub wait: Option<Duration>,
    /// When changes take effect.
    pub when: Option<When>,
    /// The folder that relative paths start from, as an absolute path.
    pub folder: Option<PathBuf>,
}

impl Parameters {
    /// The parameters of a request. If they are missing or `null`, there are none.
    pub fn new(parameters: Option<Value>) -> Parameters {
        match parameters {
            Some(Value::Object(map)) => Parameters(map),
            Some(Value::Null) | None => Parameters(Map::new()),
            // `finish` reports it as an unknown parameter.
            Some(other) => Parameters(Map::from_iter([("parameters".to_owned(), other)])),
        }
    }

    fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| Failure::invalid_parameter(name)),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// It is of another type.
    pub fn optional(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.take(name, |value| value.as_str().map(str::to_owned))
    }

    /// A required text.
    ///
    /// # Errors
    /// It is missing or of another type.
    pub fn text(&mut self, name: &str) -> Result<String, Failure> {
        required(name, self.optional(name)?)
    }

    /// A truth value; `false` if it is missing.
    ///
    /// # Errors
    /// It is of another type.
    pub fn boolean(&mut self, name: &str) -> Result<bool, Failure> {
        Ok(self.take(name, Value::as_bool)?.unwrap_or(false))
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// It is negative or of another type.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        self.take(name, Value::as_u64)
    }

    /// A number that is not negative and that `T` can represent.
    ///
    /// # Errors
    /// It is negative, too large for `T`, or of another type.
    pub fn number_as<T: TryFrom<u64>>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        self.take(name, |value| T::try_from(value.as_u64()?).ok())
    }

    /// A text, parsed.
    ///
    /// # Errors
    /// It is of another type or cannot be parsed.
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        self.take(name, |value| value.as_str()?.parse().ok())
    }

    /// A required text, parsed.
    ///
    /// # Errors
    /// It is missing, is of another type, or cannot be parsed.
    pub fn required_parsed<T: FromStr>(&mut self, name: &str) -> Result<T, Failure> {
        required(name, self.parsed(name)?)
    }

    /// A list of texts; empty if it is missing.
    ///
    /// # Errors
    /// It is of another type.
    pub fn list(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let one = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array()?.iter().map(one).collect();
        Ok(self.take(name, list)?.unwrap_or_default())
    }

    /// A list of at least one text, parsed.
    ///
    /// # Errors
    /// It is missing, empty, of another type, or cannot be parsed.
    pub fn required_list<T: FromStr>(&mut self, name: &str) -> Result<Vec<T>, Failure> {
        let one = |value: &Value| value.as_str()?.parse().ok();
        let list = |value: &Value| value.as_array()?.iter().map(one).collect::<Option<Vec<T>>>();
        let list = required(name, self.take(name, list)?)?;
        if list.is_empty() { Err(Failure::invalid_parameter(name)) } else { Ok(list) }
    }

    /// How the call is carried out.
    ///
    /// # Errors
    /// An option is of another type, out of its range, or unknown.
    pub fn options(&mut self) -> Result<CallOptions, Failure> {
        let name = "options";
        let Some(map) = self.take(name, |value| value.as_object().cloned())? else {
            return Ok(CallOptions::default());
        };
        let mut all = Parameters(map);
        let options = CallOptions {
            dry_run: all.boolean("dryRun")?,
            force: all.boolean("force")?,
            wait: all.number("waitMilliseconds")?.map(Duration::from_millis),
            when: match all.optional("when")?.as_deref() {
                None => None,
                Some("now") => Some(When::Now),
                Some("next") => Some(When::Next),
                Some(_) => return Err(Failure::invalid_parameter("when")),
            },
            folder: all.optional("folder")?.map(PathBuf::from),
        };
        // This option only concerns polkit, which has already been asked.
        all.boolean("allowInteractiveAuthentication")?;
        all.finish()?;
        let valid_wait = options.wait.is_none_or(|it| !it.is_zero() && it <= MAX_WAIT);
        let valid_folder = options.folder.as_ref().is_none_or(|it| it.is_absolute());
        match (valid_wait, valid_folder) {
            (true, true) => Ok(options),
            (false, _) => Err(Failure::invalid_parameter("waitMilliseconds")),
            (_, false) => Err(Failure::invalid_parameter("folder")),
        }
    }

    /// Checks that no parameter is left.
    ///
    /// # Errors
    /// A parameter is left.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.0.keys().next() {
            Some(name) => Err(Failure::invalid_parameter(name)),
            None => Ok(()),
        }
    }
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::invalid_parameter(name))
}
