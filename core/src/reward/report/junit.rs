//! `JUnit` files: XML as pytest, Maven, Go and most others write it.

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{MAX_MESSAGE, MAX_TESTS, TestCase, TestStatus};

/// The tests of a report; `None` when it is none. Entities of its own are never expanded.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<TestCase>> {
    let mut reader = Reader::from_reader(bytes);
    let mut state = State::default();
    let mut buffer = Vec::new();
    loop {
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Eof => return state.is_report.then_some(state.tests),
            Event::Start(element) => state.open(&element)?,
            Event::Empty(element) => {
                state.open(&element)?;
                state.close(element.local_name().as_ref());
            }
            Event::End(element) => state.close(element.local_name().as_ref()),
            Event::Text(text) => state.say(&text.decode().ok()?),
            Event::CData(text) => state.say(&text.decode().ok()?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().ok()?;
                let known = resolve_predefined_entity(&name).map(str::to_owned);
                let number = || Some(entity.resolve_char_ref().ok()??.to_string());
                state.say(&known.or_else(number).unwrap_or_default());
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
        if state.tests.len() >= MAX_TESTS {
            return Some(state.tests);
        }
        buffer.clear();
    }
}

#[derive(Debug, Default)]
struct State {
    is_report: bool,
    tests: Vec<TestCase>,
    test: Option<TestCase>,
    /// Inside of a failure without a message: its text is the message.
    listens: bool,
}

impl State {
    /// `None` where the root is that of another format.
    fn open(&mut self, element: &BytesStart<'_>) -> Option<()> {
        match (element.local_name().as_ref(), &mut self.test) {
            (b"testsuites" | b"testsuite", _) => self.is_report = true,
            _ if !self.is_report => return None,
            (b"testcase", _) => {
                let name = attribute(element, "name").unwrap_or_default();
                let class = attribute(element, "classname").filter(|class| !class.is_empty());
                self.test = Some(TestCase {
                    name: class.map_or_else(|| name.clone(), |class| format!("{class}::{name}")),
                    status: TestStatus::Passed,
                    message: None,
                });
            }
            (kind @ (b"failure" | b"error" | b"skipped"), Some(test)) => {
                test.status = if kind == b"skipped" {
                    TestStatus::Skipped
                } else {
                    TestStatus::Failed
                };
                test.message = attribute(element, "message").filter(|message| !message.is_empty());
                self.listens = test.message.is_none();
            }
            _ => {}
        }
        Some(())
    }

    fn close(&mut self, name: &[u8]) {
        match name {
            b"testcase" => self.tests.extend(self.test.take()),
            b"failure" | b"error" | b"skipped" => {
                self.listens = false;
                let said = self.test.as_mut().and_then(|test| test.message.take());
                let said = said
                    .map(|said| said.trim().to_owned())
                    .filter(|said| !said.is_empty());
                if let Some(test) = &mut self.test {
                    test.message = said;
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(test) = self.test.as_mut().filter(|_| self.listens) {
            let message = test.message.get_or_insert_default();
            if message.len() < MAX_MESSAGE {
                message.push_str(text);
            }
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_errors_fail_and_their_message_is_kept() {
        let text = br#"<?xml version="1.0"?><testsuites><testsuite name="pytest" tests="5">
            <testcase classname="tests.test_a" name="one" time="0.1"/>
            <testcase name="two"><failure message="1 &lt; 2">long story</failure></testcase>
            <testcase name="three"><error><![CDATA[ boom ]]> &amp;&#33;</error><system-out>x</system-out></testcase>
            <testcase name="four"><skipped/></testcase>
            <testcase name="five"><properties><property name="a" value="b"/></properties></testcase>
            </testsuite></testsuites>"#;
        let tests = read(text).unwrap();
        let told: Vec<_> = tests
            .iter()
            .map(|test| (test.name.as_str(), test.status, test.message.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("tests.test_a::one", TestStatus::Passed, None),
                ("two", TestStatus::Failed, Some("1 < 2")),
                ("three", TestStatus::Failed, Some("boom  &!")),
                ("four", TestStatus::Skipped, None),
                ("five", TestStatus::Passed, None),
            ]
        );
    }

    #[test]
    fn what_is_no_report_gives_none() {
        for text in [
            "",
            "<html><testcase/></html>",
            "not xml",
            "<testsuite><testcase name='a'>",
            "<testsuite><testcase></testsuite>",
        ] {
            let tests = read(text.as_bytes());
            assert!(tests.is_none_or(|tests| tests.is_empty()), "{text}");
        }
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = b"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><testsuite><testcase name=\"&b;\"/></testsuite>";
        let tests = read(bomb).unwrap();
        assert_eq!(tests[0].name, "");
    }
}
