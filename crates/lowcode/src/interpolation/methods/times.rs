//! The fields and methods of dates, times and spans.

use super::super::EvalError;
use super::super::args::Args;
use super::super::eval::Eval;
use super::super::object::{Obj, type_error};
use crate::datetime::strftime::strftime;
use crate::datetime::strptime::strptime;
use crate::datetime::{Date, DateTime, Delta, SECOND, Zone, clock_micros, clock_text, iso};
use std::rc::Rc;

fn time_of<'a>(time: DateTime) -> Obj<'a> {
    Obj::DateTime(Rc::new(time))
}

/// A date as the midnight of a naive time; a time of day on 1900-01-01, as Python formats it.
fn as_datetime(obj: &Obj<'_>) -> DateTime {
    match obj {
        Obj::DateTime(time) => (**time).clone(),
        Obj::Date(date) => DateTime::of(*date, 0, None),
        Obj::Time(micros) => DateTime::of(Date { ordinal: 693_596 }, *micros, None),
        _ => DateTime { local: 0, zone: None },
    }
}

pub(super) fn field<'a>(obj: &Obj<'a>, name: &str) -> Option<Obj<'a>> {
    if let Obj::Delta(delta) = obj {
        return Some(Obj::Int(match name {
            "days" => delta.days().into(),
            "seconds" => delta.seconds().into(),
            "microseconds" => delta.microseconds().into(),
            _ => return None,
        }));
    }
    if let Obj::Duration(it) = obj {
        return match name {
            "years" => Some(Obj::Int(it.years as i128)),
            "months" => Some(Obj::Int(it.months as i128)),
            "tdelta" => Some(Obj::Delta(it.delta)),
            _ => field(&Obj::Delta(it.delta), name),
        };
    }
    let time = as_datetime(obj);
    let (year, month, day) = time.date().parts();
    let seconds = time.time() / SECOND;
    let value = match name {
        "year" | "month" | "day" if matches!(obj, Obj::Time(_)) => return None,
        "hour" | "minute" | "second" | "microsecond" | "tzinfo" | "fold" if matches!(obj, Obj::Date(_)) => return None,
        "year" => year,
        "month" => month,
        "day" => day,
        "hour" => seconds / 3600,
        "minute" => seconds / 60 % 60,
        "second" => seconds % 60,
        "microsecond" => time.time() % SECOND,
        "fold" => 0,
        "tzinfo" => return Some(time.zone.map_or(Obj::None, |zone| Obj::Zone(Rc::new(zone)))),
        _ => return None,
    };
    Some(Obj::Int(value.into()))
}

fn text<'t>(name: &str, arg: &'t Option<Obj<'_>>) -> Result<&'t str, EvalError> {
    match arg.as_ref().and_then(|arg| arg.text()) {
        Some(text) => Ok(text),
        None => type_error(format!("{name}() argument must be str, not {}", arg.as_ref().map_or("None", Obj::type_name))),
    }
}

fn zone(arg: Option<Obj<'_>>) -> Result<Option<Zone>, EvalError> {
    match arg {
        None | Some(Obj::None) => Ok(None),
        Some(Obj::Zone(zone)) => Ok(Some((*zone).clone())),
        Some(other) => {
            type_error(format!("tzinfo argument must be None or of a tzinfo subclass, not type '{}'", other.type_name()))
        }
    }
}

pub(super) fn call<'a>(eval: &mut Eval<'a>, obj: &Obj<'a>, name: &'static str, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
    match name {
        "strftime" => {
            let [format] = args.bind(name, ["format"], 1)?;
            let format = text(name, &format)?;
            return Ok(Obj::str(strftime(&as_datetime(obj), format)));
        }
        "isoformat" => return isoformat(obj, args),
        "total_seconds" | "totimedelta" => {
            let Obj::Delta(delta) = obj else {
                let Obj::Duration(it) = obj else { return Ok(Obj::None) };
                return Ok(Obj::Float(it.delta.total_seconds()));
            };
            let [] = args.positional(name, 0)?;
            return Ok(Obj::Float(delta.total_seconds()));
        }
        "replace" => return replace(obj, args),
        "now" | "utcnow" | "today" | "strptime" | "fromtimestamp" | "utcfromtimestamp" | "fromisoformat" | "fromordinal"
        | "combine" => return class_method(eval, obj, name, args),
        _ => {}
    }
    let time = as_datetime(obj);
    if name == "astimezone" {
        let [to] = args.bind(name, ["tz"], 0)?;
        return time.in_zone(zone(to)?.unwrap_or(Zone::UTC)).map(time_of);
    }
    let [] = args.positional(name, 0)?;
    let date = time.date();
    Ok(match name {
        "date" => Obj::Date(date),
        "time" => Obj::Time(time.time()),
        "timestamp" => Obj::Float(time.timestamp()),
        "weekday" => Obj::Int(date.weekday().into()),
        "isoweekday" => Obj::Int((date.weekday() + 1).into()),
        "isocalendar" => {
            let (year, week, day) = date.isocalendar();
            Obj::tuple([year, week, day].map(|it| Obj::Int(it.into())).to_vec())
        }
        "toordinal" => Obj::Int(date.ordinal.into()),
        "ctime" => Obj::str(strftime(&time, "%a %b %e %H:%M:%S %Y")),
        "tzname" => time.zone.map_or(Obj::None, |zone| Obj::str(zone.name())),
        "utcoffset" => time.zone.map_or(Obj::None, |zone| Obj::Delta(Delta { micros: zone.offset.into() })),
        "dst" => Obj::None,
        "timetuple" => {
            let parts = strftime(&time, "%Y %m %d %H %M %S %w %j");
            let mut parts: Vec<i128> = parts.split(' ').filter_map(|part| part.parse().ok()).collect();
            if let Some(weekday) = parts.get_mut(6) {
                *weekday = (*weekday + 6) % 7;
            }
            parts.push(-1);
            Obj::tuple(parts.into_iter().map(Obj::Int).collect())
        }
        _ => return type_error(format!("{name} is not supported")),
    })
}

fn isoformat<'a>(obj: &Obj<'a>, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
    if let Obj::Date(date) = obj {
        let [] = args.positional("isoformat", 0)?;
        return Ok(Obj::str(date.isoformat()));
    }
    let (sep, spec) = if matches!(obj, Obj::Time(_)) {
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
    if matches!(obj, Obj::Time(_)) {
        return Ok(Obj::str(clock));
    }
    let offset = time.zone.as_ref().map_or_else(String::new, |zone| crate::datetime::offset_text(zone.offset, ":"));
    Ok(Obj::str(format!("{}{sep}{clock}{offset}", time.date().isoformat())))
}

fn replace<'a>(obj: &Obj<'a>, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
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
    if matches!(obj, Obj::Date(_)) {
        if given.iter().skip(3).any(Option::is_some) {
            return type_error("replace() got an unexpected keyword argument");
        }
        return Ok(Obj::Date(date));
    }
    let [.., tz, _] = given;
    let zone = if tz.is_some() { zone(tz)? } else { time.zone };
    DateTime::new(date, clock, zone).map(time_of)
}

/// Methods of the class, which Python also gives to its instances.
fn class_method<'a>(eval: &Eval<'a>, obj: &Obj<'a>, name: &str, args: Args<'a>) -> Result<Obj<'a>, EvalError> {
    let naive = |time: DateTime| DateTime { zone: None, ..time };
    let now = DateTime::from_jiff(eval.scope.host.now());
    let of_date = matches!(obj, Obj::Date(_));
    let made = match name {
        "now" => {
            let [tz] = args.bind(name, ["tz"], 0)?;
            match zone(tz)? {
                Some(zone) => now.in_zone(zone)?,
                None => naive(now),
            }
        }
        "utcnow" | "today" => {
            let [] = args.positional(name, 0)?;
            naive(now)
        }
        "strptime" => {
            let [value, format] = args.positional(name, 2)?;
            strptime(text(name, &value)?, text(name, &format)?)?
        }
        "fromtimestamp" | "utcfromtimestamp" => {
            let [seconds, tz] = args.bind(name, ["timestamp", "tz"], 1)?;
            let Some(seconds) = seconds.as_ref().and_then(Obj::number) else { return type_error("a number is required") };
            let time = DateTime::from_timestamp(seconds)?;
            match zone(tz)? {
                Some(zone) => time.in_zone(zone)?,
                None => naive(time),
            }
        }
        "fromisoformat" => {
            let [value] = args.positional(name, 1)?;
            iso::isoparse(text(name, &value)?).map_err(|_| EvalError::value_error("Invalid isoformat string"))?
        }
        "fromordinal" => {
            let [value] = args.positional(name, 1)?;
            let ordinal = value.and_then(|it| it.int()).and_then(|it| i64::try_from(it).ok()).unwrap_or(0);
            DateTime::of(Date::from_ordinal(ordinal).map_err(|error| EvalError::value_error(error.message))?, 0, None)
        }
        _ => {
            let [date, time] = args.positional(name, 2)?;
            let (Some(Obj::Date(date)), Some(Obj::Time(micros))) = (date, time) else { return type_error("combine() argument") };
            let seconds = micros / SECOND;
            let clock = clock_micros([seconds / 3600, seconds / 60 % 60, seconds % 60, micros % SECOND])?;
            DateTime::of(date, clock, None)
        }
    };
    Ok(if of_date { Obj::Date(made.date()) } else { time_of(made) })
}
