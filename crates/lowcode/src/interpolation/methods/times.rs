//! The fields and methods of `date`, `time`, `datetime`, `timedelta` and `Duration`.

use super::super::EvalError;
use super::super::args::Args;
use super::super::eval::Eval;
use super::super::object::{Object, type_error};
use crate::datetime::strftime::strftime;
use crate::datetime::strptime::strptime;
use crate::datetime::{Date, DateTime, Delta, SECOND, Zone, clock_micros, clock_text, iso};
use std::rc::Rc;

fn datetime_object<'a>(time: DateTime) -> Object<'a> {
    Object::DateTime(Rc::new(time))
}

/// The `datetime` that Python uses to format a date or a time of day: naive midnight for a date, and the day 1900-01-01
/// for a time of day.
fn as_datetime(obj: &Object<'_>) -> DateTime {
    match obj {
        Object::DateTime(time) => (**time).clone(),
        Object::Date(date) => DateTime::from_date(*date, 0, None),
        Object::Time(micros) => DateTime::from_date(Date::YEAR_1900, *micros, None),
        _ => DateTime::from_date(Date::YEAR_1900, 0, None),
    }
}

pub(super) fn field<'a>(obj: &Object<'a>, name: &str) -> Option<Object<'a>> {
    if let Object::Delta(delta) = obj {
        return Some(Object::Int(match name {
            "days" => delta.days().into(),
            "seconds" => delta.seconds().into(),
            "microseconds" => delta.microseconds().into(),
            _ => return None,
        }));
    }
    if let Object::Duration(it) = obj {
        return match name {
            "years" => Some(Object::Int(it.years as i128)),
            "months" => Some(Object::Int(it.months as i128)),
            "tdelta" => Some(Object::Delta(it.delta)),
            _ => field(&Object::Delta(it.delta), name),
        };
    }
    let time = as_datetime(obj);
    let (year, month, day) = time.date().parts();
    let seconds = time.time() / SECOND;
    let value = match name {
        "year" | "month" | "day" if matches!(obj, Object::Time(_)) => return None,
        "hour" | "minute" | "second" | "microsecond" | "tzinfo" | "fold" if matches!(obj, Object::Date(_)) => return None,
        "year" => year,
        "month" => month,
        "day" => day,
        "hour" => seconds / 3600,
        "minute" => seconds / 60 % 60,
        "second" => seconds % 60,
        "microsecond" => time.time() % SECOND,
        "fold" => 0,
        "tzinfo" => return Some(time.zone.map_or(Object::None, |zone| Object::Zone(Rc::new(zone)))),
        _ => return None,
    };
    Some(Object::Int(value.into()))
}

fn text<'t>(name: &str, arg: &'t Option<Object<'_>>) -> Result<&'t str, EvalError> {
    match arg.as_ref().and_then(|arg| arg.text()) {
        Some(text) => Ok(text),
        None => type_error(format!("{name}() argument must be str, not {}", arg.as_ref().map_or("None", Object::type_name))),
    }
}

fn zone(arg: Option<Object<'_>>) -> Result<Option<Zone>, EvalError> {
    match arg {
        None | Some(Object::None) => Ok(None),
        Some(Object::Zone(zone)) => Ok(Some((*zone).clone())),
        Some(other) => {
            type_error(format!("tzinfo argument must be None or of a tzinfo subclass, not type '{}'", other.type_name()))
        }
    }
}

pub(super) fn call<'a>(
    eval: &mut Eval<'a>,
    obj: &Object<'a>,
    name: &'static str,
    args: Args<'a>,
) -> Result<Object<'a>, EvalError> {
    match name {
        "strftime" => {
            let [format] = args.bind(name, ["format"], 1)?;
            let format = text(name, &format)?;
            return Ok(Object::str(strftime(&as_datetime(obj), format)));
        }
        "isoformat" => return isoformat(obj, args),
        "total_seconds" | "totimedelta" => {
            let Object::Delta(delta) = obj else {
                let Object::Duration(it) = obj else { return Ok(Object::None) };
                return Ok(Object::Float(it.delta.total_seconds()));
            };
            let [] = args.positional(name, 0)?;
            return Ok(Object::Float(delta.total_seconds()));
        }
        "replace" => return replace(obj, args),
        "now" | "utcnow" | "today" | "strptime" | "fromtimestamp" | "utcfromtimestamp" | "fromisoformat" | "fromordinal"
        | "combine" => return class_method(eval, obj, name, args),
        _ => {}
    }
    let time = as_datetime(obj);
    if name == "astimezone" {
        let [to] = args.bind(name, ["tz"], 0)?;
        return time.in_zone(zone(to)?.unwrap_or(Zone::UTC)).map(datetime_object);
    }
    let [] = args.positional(name, 0)?;
    let date = time.date();
    Ok(match name {
        "date" => Object::Date(date),
        "time" => Object::Time(time.time()),
        "timestamp" => Object::Float(time.timestamp()),
        "weekday" => Object::Int(date.weekday().into()),
        "isoweekday" => Object::Int((date.weekday() + 1).into()),
        "isocalendar" => {
            let (year, week, day) = date.isocalendar();
            Object::tuple([year, week, day].map(|it| Object::Int(it.into())).to_vec())
        }
        "toordinal" => Object::Int(date.ordinal().into()),
        "ctime" => Object::str(strftime(&time, "%a %b %e %H:%M:%S %Y")),
        "tzname" => time.zone.map_or(Object::None, |zone| Object::str(zone.name())),
        "utcoffset" => time.zone.map_or(Object::None, |zone| Object::Delta(Delta { micros: zone.offset.into() })),
        "dst" => Object::None,
        "timetuple" => {
            let parts = strftime(&time, "%Y %m %d %H %M %S %w %j");
            let mut parts: Vec<i128> = parts.split(' ').filter_map(|part| part.parse().ok()).collect();
            if let Some(weekday) = parts.get_mut(6) {
                *weekday = (*weekday + 6) % 7;
            }
            parts.push(-1);
            Object::tuple(parts.into_iter().map(Object::Int).collect())
        }
        _ => return type_error(format!("{name} is not supported")),
    })
}

fn isoformat<'a>(obj: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    if let Object::Date(date) = obj {
        let [] = args.positional("isoformat", 0)?;
        return Ok(Object::str(date.isoformat()));
    }
    let (sep, spec) = if matches!(obj, Object::Time(_)) {
        let [spec] = args.bind("isoformat", ["timespec"], 0)?;
        (None, spec)
    } else {
        let [sep, spec] = args.bind("isoformat", ["sep", "timespec"], 0)?;
        (sep, spec)
    };
    let sep = sep.as_ref().map_or(Ok("T"), |_| text("isoformat", &sep))?;
    if sep.chars().count() != 1 {
        return type_error("isoformat() argument 1 must be a unicode character, not str");
    }
    let time = as_datetime(obj);
    let micros = time.time();
    let full = clock_text(micros);
    let whole = full.get(..8).unwrap_or(&full).to_owned();
    let fraction = micros % SECOND;
    let clock = match spec.as_ref().map_or(Ok("auto"), |_| text("isoformat", &spec))? {
        "auto" => full,
        "hours" => whole.get(..2).unwrap_or_default().to_owned(),
        "minutes" => whole.get(..5).unwrap_or_default().to_owned(),
        "seconds" => whole,
        "milliseconds" => format!("{whole}.{:03}", fraction / 1000),
        "microseconds" => format!("{whole}.{fraction:06}"),
        _ => return Err(EvalError::value_error("Unknown timespec value")),
    };
    if matches!(obj, Object::Time(_)) {
        return Ok(Object::str(clock));
    }
    let offset = time.zone.as_ref().map_or_else(String::new, |zone| crate::datetime::offset_text(zone.offset, ":"));
    Ok(Object::str(format!("{}{sep}{clock}{offset}", time.date().isoformat())))
}

fn replace<'a>(obj: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let time = as_datetime(obj);
    let (year, month, day) = time.date().parts();
    let seconds = time.time() / SECOND;
    let names = ["year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo", "fold"];
    let given = args.bind("replace", names, 0)?;
    let mut parts = [year, month, day, seconds / 3600, seconds / 60 % 60, seconds % 60, time.time() % SECOND];
    for (slot, value) in parts.iter_mut().zip(&given) {
        if let Some(value) = value {
            let Some(int) = value.int() else {
                return type_error(format!("'{}' object cannot be interpreted as an integer", value.type_name()));
            };
            *slot = i64::try_from(int).unwrap_or(i64::MAX);
        }
    }
    let [year, month, day, clock @ ..] = parts;
    let date = Date::new(year, month, day)?;
    if matches!(obj, Object::Date(_)) {
        if given.iter().skip(3).any(Option::is_some) {
            return type_error("replace() got an unexpected keyword argument");
        }
        return Ok(Object::Date(date));
    }
    let [.., tz, _] = given;
    let zone = if tz.is_some() { zone(tz)? } else { time.zone };
    DateTime::new(date, clock, zone).map(datetime_object)
}

/// Class methods. Python also allows them to be called on instances.
fn class_method<'a>(eval: &Eval<'a>, obj: &Object<'a>, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let now = DateTime::from_jiff(eval.scope.host.now());
    let of_date = matches!(obj, Object::Date(_));
    let made = match name {
        "now" => {
            let [tz] = args.bind(name, ["tz"], 0)?;
            match zone(tz)? {
                Some(zone) => now.in_zone(zone)?,
                None => now.naive(),
            }
        }
        "utcnow" | "today" => {
            let [] = args.positional(name, 0)?;
            now.naive()
        }
        "strptime" => {
            let [value, format] = args.positional(name, 2)?;
            strptime(text(name, &value)?, text(name, &format)?)?
        }
        "fromtimestamp" | "utcfromtimestamp" => {
            let [seconds, tz] = args.bind(name, ["timestamp", "tz"], 1)?;
            let Some(seconds) = seconds.as_ref().and_then(Object::number) else { return type_error("a number is required") };
            let time = DateTime::from_timestamp(seconds)?;
            match zone(tz)? {
                Some(zone) => time.in_zone(zone)?,
                None => time.naive(),
            }
        }
        "fromisoformat" => {
            let [value] = args.positional(name, 1)?;
            iso::isoparse(text(name, &value)?).map_err(|_| EvalError::value_error("Invalid isoformat string"))?
        }
        "fromordinal" => {
            let [value] = args.positional(name, 1)?;
            let ordinal = value.and_then(|it| it.int()).and_then(|it| i64::try_from(it).ok()).unwrap_or(0);
            DateTime::from_date(Date::from_ordinal(ordinal).map_err(|error| EvalError::value_error(error.message))?, 0, None)
        }
        _ => {
            let [date, time] = args.positional(name, 2)?;
            let (Some(Object::Date(date)), Some(Object::Time(micros))) = (date, time) else {
                return type_error("combine() argument");
            };
            let seconds = micros / SECOND;
            let clock = clock_micros([seconds / 3600, seconds / 60 % 60, seconds % 60, micros % SECOND])?;
            DateTime::from_date(date, clock, None)
        }
    };
    Ok(if of_date { Object::Date(made.date()) } else { datetime_object(made) })
}
