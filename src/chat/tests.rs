use super::*;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::Config;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures").join(name);
    assert!(path.exists(), "{} is missing: these tests need the reference data in ../shared/fixtures", path.display());
    path
}

fn read(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Renders with exactly the variables of a JSON object.
fn render_context(template: &ChatTemplate, context: &Json, now: f64) -> Result<String, Error> {
    let context = context.as_object().expect("a context is an object");
    let variables: Result<_, _> = context.iter().map(|(name, value)| Ok((&**name, variable(name, value)?))).collect();
    template.render_variables(variables?, now)
}

fn render(source: &str, context: Json) -> Result<String, Error> {
    render_context(&ChatTemplate::new(source)?, &context, 0.0)
}

fn text(source: &str, context: Json) -> String {
    render(source, context).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn failure(source: &str) -> String {
    match render(source, json!({})) {
        Ok(output) => panic!("{source} gave {output:?}"),
        Err(error) => error.to_string(),
    }
}

// --- published templates --------------------------------------------------------------------------------------------

/// 2024-07-26T09:10:11, the `now` of cases.json.
const NOW: f64 = 1_721_985_011.0;

#[test]
fn published_templates_render_as_transformers_renders_them() {
    let cases: Json = serde_json::from_str(&read("templates/cases.json")).unwrap();
    assert_eq!(cases["now"], "2024-07-26T09:10:11");
    let mut failures = Vec::new();
    for template in cases["templates"].as_array().unwrap() {
        let file = template["file"].as_str().unwrap();
        let compiled = ChatTemplate::new(&read(&format!("templates/{file}"))).unwrap();
        for case in template["cases"].as_array().unwrap() {
            let got = render_context(&compiled, &case["context"], NOW);
            let is_right = match (&got, case["expected"].as_str(), case["error"].as_str()) {
                (Ok(got), Some(expected), _) => got == expected,
                (Err(Error::Raised(got)), None, Some(expected)) => got == expected,
                _ => false,
            };
            if !is_right {
                failures.push(format!("{file} {}: {got:#?}, expected {case:#}", case["name"]));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn render_gives_what_the_cases_give() {
    let cases: Json = serde_json::from_str(&read("templates/cases.json")).unwrap();
    for template in cases["templates"].as_array().unwrap() {
        let compiled = ChatTemplate::new(&read(&format!("templates/{}", template["file"].as_str().unwrap()))).unwrap();
        for case in template["cases"].as_array().unwrap() {
            let mut variables = case["context"].as_object().unwrap().clone();
            let mut take = |name: &str| variables.remove(name).unwrap_or(Json::Null);
            let messages = take("messages");
            let options = RenderOptions {
                add_generation_prompt: take("add_generation_prompt") == true,
                bos_token: take("bos_token").as_str().map(str::to_owned),
                eos_token: take("eos_token").as_str().map(str::to_owned),
                tools: Some(take("tools")),
                documents: Some(take("documents")),
                variables,
                now: Some(NOW),
            };
            let got = compiled.render(&messages, &options);
            assert_eq!(got.ok().as_deref(), case["expected"].as_str(), "{} {}", template["file"], case["name"]);
        }
    }
}

// --- render ---------------------------------------------------------------------------------------------------------

#[test]
fn render_gives_the_variables_of_transformers() {
    let template = ChatTemplate::new(
        "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m['content'] }};{% endfor %}\
         {% if add_generation_prompt %}go{% endif %}{{ eos_token }} {{ tools }} {{ documents }} {{ nothing.at.all }}",
    )
    .unwrap();
    let messages = json!([{"role": "user", "content": "hé"}]);
    let options = RenderOptions {
        add_generation_prompt: true,
        bos_token: Some("<s>".into()),
        eos_token: Some("</s>".into()),
        ..RenderOptions::default()
    };
    assert_eq!(template.render(&messages, &options).unwrap(), "<s>user:hé;go</s> None None ");
    assert_eq!(template.render(&messages, &RenderOptions::default()).unwrap(), "user:hé; None None ");
    assert!(template.source().starts_with("{{ bos_token }}"));
}

#[test]
fn variables_win() {
    let template = ChatTemplate::new("{{ bos_token }} {{ messages }} {{ extra }}").unwrap();
    let variables = json!({"bos_token": "mine", "messages": 3, "extra": {"b": 1, "a": [null, true, 0.5, "x'y"]}});
    let options = RenderOptions {
        bos_token: Some("model's".into()),
        variables: variables.as_object().unwrap().clone(),
        ..RenderOptions::default()
    };
    let expected = r#"mine 3 {'b': 1, 'a': [None, True, 0.5, "x'y"]}"#;
    assert_eq!(template.render(&json!([]), &options).unwrap(), expected);
}

#[test]
fn now_is_the_clock_unless_given() {
    let template = ChatTemplate::new("{{ strftime_now('%d %b %Y') }}").unwrap();
    let at = |now| template.render(&json!([]), &RenderOptions { now, ..RenderOptions::default() }).unwrap();
    assert_eq!(at(Some(NOW)), "26 Jul 2024");
    assert!(at(None)[7..].parse::<u32>().unwrap() >= 2024);
}

#[test]
fn raise_exception_is_its_own_error() {
    for source in [
        "{{ raise_exception('no ' ~ 'way') }}",
        "{% macro m() %}{{ raise_exception('no way') }}{% endmacro %}{{ m() }}",
    ] {
        match render(source, json!({})) {
            Err(Error::Raised(message)) => assert_eq!(message, "no way"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn errors_name_the_line() {
    for (source, expected) in [
        ("\n{% if %}", "line 2"),
        ("\n\n{{ 'x' + 1 }}", "line 3"),
        ("a\n{{ x.y() }}\n", "line 2"),
        ("{#\n#}\n{{ 'abc }}", "line 3"),
        ("\n{{ x|nosuchfilter }}", "line 2"),
        ("\n{{ 2 ** 8 }}", "line 2"),
    ] {
        let message = failure(source);
        assert!(message.contains(expected), "{source:?}: {message}");
    }
}

#[test]
fn deep_messages_are_refused() {
    let mut messages = json!("x");
    (0..5000).for_each(|_| messages = Json::Array(vec![messages.take()]));
    let error = ChatTemplate::new("{{ messages }}").unwrap().render(&messages, &RenderOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "`messages` is nested deeper than 100 levels");
    // Its own drop would recurse as deep as it is nested.
    while let Json::Array(mut inner) = messages {
        messages = inner.pop().unwrap_or_default();
    }
}

// --- the language ---------------------------------------------------------------------------------------------------

#[test]
fn white_space_is_that_of_transformers() {
    assert_eq!(text("  {% if true %}\n  x\n  {% endif %}\ny\n", json!({})), "  x\ny");
    assert_eq!(text("a\n {%- if true -%} \n b {%+ endif %} c", json!({})), "ab  c");
    let long = "word ".repeat(40);
    assert_eq!(text(&format!("{{%- if true -%}} \n {long}\n  {{%- endif %}}"), json!({})), long.trim_end());
    assert_eq!(
        text(&format!("{{% if true %}}\n  {{x}} {long}\n  {{% endif %}}"), json!({})),
        format!("  {{x}} {long}\n")
    );
}

#[test]
fn generation_renders_its_body_in_a_scope() {
    let source = "{%- set x = 1 -%} a {%- generation -%} b{% set x = 2 %}{{ x }} {% endgeneration -%} c {{ x }}";
    assert_eq!(text(source, json!({})), "ab2 c 1");
    assert_eq!(
        text("{% raw %}{% generation %}{% endraw %}{{ '{% generation %}' }}", json!({})),
        "{% generation %}".repeat(2)
    );
}

#[test]
fn loops_break_and_continue() {
    let source = "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}";
    assert_eq!(text(source, json!({})), "013");
}

#[test]
fn json_is_that_of_python() {
    let value = json!({"z": "<é'\"\\\n\u{1}>", "a": [1, 2.0, 1e20, null, true], "e": [{}, []]});
    let compact = r#"{"z": "<é'\"\\\n\u0001>", "a": [1, 2.0, 1e+20, null, true], "e": [{}, []]}"#;
    assert_eq!(text("{{ x | tojson }}", json!({"x": value})), compact);
    let indented = "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": \"é\"\n}";
    assert_eq!(text("{{ x|tojson(indent=2) }}", json!({"x": {"b": [1, {}], "a": "é"}})), indented);
    let options = "{{ x|tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}";
    assert_eq!(text(options, json!({"x": {"b": [1, 2], "a": "é😀"}})), r#"{"a":"\u00e9\ud83d\ude00","b":[1,2]}"#);
}

#[test]
fn operators_keep_their_meaning() {
    let context = json!({"a": "x", "n": 3, "list": [1, 2], "text": "abc", "d": {"k": [true, null]}});
    for (source, expected) in [
        ("{{ a ~ n ~ list ~ d ~ none ~ 1.0 }}", "x3[1, 2]{'k': [True, None]}None1.0"),
        ("{{ n + 2 * n - 1 }} {{ -n ~ a }} {{ n * 2 ~ n % 2 }} {{ 7 // 2 ~ 7 / 2 }}", "8 -3x 61 33.5"),
        (
            "{{ list + [n] + [] }} {{ (list + [n])[1:] }} {{ list * 2 }} {{ '-' * n }}",
            "[1, 2, 3] [2, 3] [1, 2, 1, 2] ---",
        ),
        ("{{ n in list }} {{ n not in list }} {{ 'b' in text and not 'z' in text }}", "False True True"),
        (
            "{{ n == 3 == true }} {{ 1 < n <= 3 }} {{ n is odd == true }} {{ n is divisibleby 3 and n is in [3] }}",
            "False True True True",
        ),
        ("{{ text[1:] }}{{ text[::-1] }}{{ text[-1] }}{{ text[:2].upper()|lower ~ a }}", "bccbacabx"),
        ("{{ a if n == 3 else a + a }} {{ x.y.z is defined }} {{ d.k is sequence and d is mapping }}", "x False True"),
        ("{% set a, b = 1, [2] %}{{ a }}{{ b }}{% set t = (a, b) %}{{ t[0] + t[1][0] }}", "1[2]3"),
        ("{% set ns = namespace(x=1) %}{% for i in list %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "4"),
        ("{% set x | upper %}a{{ n }}b{% endset %}{{ x }}{% filter indent(width=2) %}a\nb{% endfilter %}", "A3Ba\n  b"),
        (
            "{% macro m(p, q=['a' ~ 3]) %}<{{ p }}{{ q }}{{ caller(1, 2) }}>{% endmacro %}{% call(u, v) m(n) %}{{ u + v }}{% endcall %}",
            "<3['a3']3>",
        ),
        ("{% with u = n + 1, v = [n][0] %}{{ u * v }}{% endwith %}", "12"),
        (
            "{{ list | map('string') | join('+') }} {{ d.items() | list }} {{ d | length + 1 }}",
            "1+2 [['k', [True, None]]] 2",
        ),
        ("{{ 'a' 'b' ~ 'c' }}{{ {'k': n + 1}.k }}{{ {'k': {}}['k'] }}{{ [n, [n]][1][0] }}", "abc4{}3"),
        ("{{ dict(a=n + 1, **d) }}", "{'a': 4, 'k': [True, None]}"),
        ("{{ missing }}{{ missing ~ 'x' }}{{ missing|default('y') }}{{ 'z' if missing }}", "xy"),
    ] {
        assert_eq!(text(source, context.clone()), expected, "{source}");
    }
}

#[test]
fn methods_are_those_of_python() {
    let context = json!({"s": " ab,c ", "d": {"k": 1, "l": null}});
    for (source, expected) in [
        ("{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}", "ab,c|ab,c | ab,c|a"),
        (
            "{{ s.split(',') }} {{ 'a b  c'.split() }} {{ 'a-b-c'.split('-', 1)[1] }}",
            "[' ab', 'c '] ['a', 'b', 'c'] b-c",
        ),
        (
            "{{ 'aXbX'.replace('X', 'yy') }} {{ 'aXbX'.replace('X', '', 1) }} {{ 'ab'|replace('', '-') }}",
            "ayybyy abX -a-b-",
        ),
        ("{{ 'aXbX'.count('X') }} {{ 'abc'.count('') }} {{ 'abc'.find('c') }}", "2 4 2"),
        ("{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }}", "True True"),
        ("{{ d.get('k') }} {{ d.get('x', 5) }} {{ d.keys()|list }} {{ d.values()|list }}", "1 5 ['k', 'l'] [1, None]"),
        ("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "k=1;l=None;"),
        (
            "{{ ', '.join(['a', 'b']) }} {{ 'ab'.upper().title() }} {{ 'abc'.removeprefix('a').removesuffix('c') }}",
            "a, b Ab b",
        ),
        ("{{ '%s-%03d'|format('a', 7) }} {{ '{}:{:>3}'.format('a', 7) }} {{ '*%s*%%'|format(1) }}", "a-007 a:  7 *1*%"),
        ("{{ 'a\n\nb\n'|indent(2) }}|{{ 'a\nb'|indent('> ', true) }}", "a\n\n  b\n|> a\n> b"),
    ] {
        assert_eq!(text(source, context.clone()), expected, "{source}");
    }
}

/// What is refused below must not touch what people do: two thousand messages of two thousand characters, with tools.
#[test]
fn long_conversations_render_with_every_published_template() {
    let cases: Json = serde_json::from_str(&read("templates/cases.json")).unwrap();
    for template in cases["templates"].as_array().unwrap() {
        let file = template["file"].as_str().unwrap();
        let compiled = ChatTemplate::new(&read(&format!("templates/{file}"))).unwrap();
        for case in template["cases"].as_array().unwrap().iter().filter(|case| case["error"].is_null()) {
            let mut context = case["context"].clone();
            let messages = context["messages"].as_array_mut().unwrap();
            // The last message stays the last: templates look at it.
            let last = messages.pop().unwrap();
            for _ in 0..1000 {
                messages.push(json!({"role": "user", "content": "question ".repeat(220)}));
                messages.push(json!({"role": "assistant", "content": "an answer ".repeat(200)}));
            }
            messages.push(last);
            // Templates may refuse a conversation that does not alternate; they must not run out of anything.
            match render_context(&compiled, &context, NOW) {
                Ok(_) | Err(Error::Raised(_)) => {}
                Err(error) => panic!("{file} {}: {error}", case["name"]),
            }
        }
    }
}

// --- hostile templates ----------------------------------------------------------------------------------------------

/// Fails within the time that a person would wait, whatever fails; a crash or a flood of memory ends the test process.
fn is_refused(name: &str, source: &str) {
    let start = Instant::now();
    let result = render(source, json!({"long": "ab".repeat(500_000)}));
    let took = start.elapsed();
    assert!(result.is_err(), "{name} gave {} bytes", result.map(|output| output.len()).unwrap_or_default());
    assert!(took < Duration::from_secs(20), "{name} took {took:?}");
}

#[test]
fn templates_of_malformed_models_are_refused() {
    for name in ["tokenizer-template-endless", "tokenizer-template-recursion"] {
        let bytes = std::fs::read(fixture(&format!("malformed/{name}.gguf"))).unwrap();
        // GGUF specification: a key, the value's type (8 is a string), its length, its bytes.
        let key = b"tokenizer.chat_template";
        let value = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        assert_eq!(bytes[value..value + 4], [8, 0, 0, 0]);
        let length = u64::from_le_bytes(bytes[value + 4..value + 12].try_into().unwrap()) as usize;
        let source = std::str::from_utf8(&bytes[value + 12..value + 12 + length]).unwrap();
        is_refused(name, source);
    }
}

#[test]
fn endless_work_is_refused() {
    let loops = |body: &str| {
        format!("{{% for i in range(90000) %}}{{% for j in range(90000) %}}{body}{{% endfor %}}{{% endfor %}}")
    };
    is_refused("nested loops", &loops(""));
    is_refused("loops that search", &loops("{% if 'z' in long %}{% endif %}"));
    is_refused("loops that compare", &loops("{% if long == long ~ 'x' %}{% endif %}"));
    is_refused("loops that slice", &loops("{% set x = long[1:] %}"));
    is_refused("loops that write", &loops("{{ long }}"));
    is_refused("loops that filter", &loops("{{ (long|upper)[0] }}"));
    is_refused("loops that call methods", &loops("{{ long.upper()[0] }}"));
    is_refused("loops of text", &loops(&"text ".repeat(2000)));
    is_refused("loops of captured text", &format!("{{% set x %}}{}{{% endset %}}", loops(&"text ".repeat(2000))));
    is_refused("loops that print numbers", &loops("{{ 1 }}"));
    is_refused("loops that capture", &format!("{{% set x %}}{}{{% endset %}}", loops("{{ long }}")));
}

#[test]
fn growth_is_refused() {
    let doubling = |step: &str| {
        format!("{{% set ns = namespace(x='ab', l=[1]) %}}{{% for i in range(99) %}}{step}{{% endfor %}}{{{{ ns.x }}}}")
    };
    is_refused("concatenation", &doubling("{% set ns.x = ns.x ~ ns.x %}"));
    is_refused("addition", &doubling("{% set ns.x = ns.x + ns.x %}"));
    is_refused("multiplication", &doubling("{% set ns.x = ns.x * 1000 %}"));
    is_refused("lists", &doubling("{% set ns.l = ns.l + ns.l %}"));
    is_refused("lists of lists", &doubling("{% set ns.l = [ns.l, ns.l] %}"));
    is_refused("dictionaries", &doubling("{% set ns.l = {'a': ns.l, 'b': ns.l} %}"));
    is_refused("dict()", &doubling("{% set ns.l = dict(a=ns.l, b=ns.l) %}"));
    is_refused("captures", &doubling("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"));
    is_refused("replace", &doubling("{% set ns.x = ns.x.replace('a', ns.x) %}"));
    is_refused("replace filter", &doubling("{% set ns.x = ns.x|replace('a', ns.x) %}"));
    is_refused("join", &doubling("{% set ns.x = ns.x.join([ns.x, ns.x]) %}"));
    is_refused("join filter", &doubling("{% set ns.x = [ns.x, ns.x]|join(ns.x) %}"));
    is_refused("format", &doubling("{% set ns.x = '{0}{0}'.format(ns.x) %}"));
    is_refused("format filter", &doubling("{% set ns.x = '%s%s'|format(ns.x, ns.x) %}"));
    is_refused("tojson", &doubling("{% set ns.x = ns.x|tojson|tojson|tojson %}"));
    is_refused("long names", &format!("{}{{{{ x }}}}", "{% set x = (x or 'ab') ~ x ~ x %}".repeat(64)));
    is_refused("arguments", "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('ab') }}");
    is_refused("lists as arguments", "{% macro m(x) %}{{ m([x, x]) }}{% endmacro %}{{ m('ab') }}");
    is_refused(
        "a caller",
        "{% macro m(x) %}{{ caller }}{% call m(x ~ x) %}{% endcall %}{% endmacro %}{% call m('ab') %}{% endcall %}",
    );
}

#[test]
fn great_numbers_are_refused() {
    for source in [
        "{{ 'a' * 1000000000 }}",
        "{{ 1e9 * 'a' }}",
        "{{ ([1] * 1000000000)|list }}",
        "{{ ([1] * 4000 * 4000 * 4000)|list }}",
        "{{ 'x'|indent(1000000000000) }}",
        "{{ 'x\ny'|indent(width=18446744073709551615) }}",
        "{{ [1]|batch(1000000000000) }}",
        "{{ [1]|slice(1000000000000) }}",
        "{{ '%999999999999d'|format(1) }}",
        "{{ '%.999999999f'|format(1) }}",
        "{{ '%*d'|format(999999999, 1) }}",
        "{{ '{:999999999}'.format('x') }}",
        "{{ '{:{}}'.format('x', 999999999) }}",
        "{{ [1]|tojson(indent=1000000000000) }}",
        "{{ range(1000000000) }}",
        "{{ 10 ** 1000000 }}",
        "{{ 170141183460469231731687303715884105727 * 4 }}",
        "{{ 9223372036854775807 // 0 }}",
        "{{ 'abc'[::0] }}",
    ] {
        is_refused(source, source);
    }
}

#[test]
fn nesting_is_refused() {
    let nested = |step: &str| {
        format!(
            "{{% set ns = namespace(x=[1]) %}}{{% for i in range(99999) %}}{{% set ns.x = {step} %}}{{% endfor %}}{{{{ ns.x }}}}"
        )
    };
    is_refused("lists", &nested("[ns.x]"));
    is_refused("dictionaries", &nested("{'a': ns.x}"));
    is_refused("dict()", &nested("dict(a=ns.x)"));
    is_refused("batches", &nested("ns.x|batch(1)|list"));
    is_refused("a namespace in itself", &nested("ns"));
    is_refused("a namespace on a condition", &nested("ns if true else 1"));
    is_refused("a pair", &nested("ns.x, 1"));
    is_refused("a namespace in its list", &nested("[ns]"));
    is_refused("a namespace in its dict()", &nested("dict(a=ns)"));
    is_refused("brackets", &format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)));
    is_refused("lists in brackets", &format!("{{{{ {}1{} }}}}", "[".repeat(120), "]".repeat(120)));
    is_refused("blocks", &"{% if true %}".repeat(9000));
    is_refused("a macro", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    is_refused(
        "a macro with brackets",
        &format!("{{% macro m() %}}{{{{ {}m(){} }}}}{{% endmacro %}}{{{{ m() }}}}", "[".repeat(90), "]".repeat(90)),
    );
    is_refused("two macros", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}");
    is_refused("a recursive loop", "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}");
    is_refused("a block", "{% block a %}{{ self.a() }}{% endblock %}");
    is_refused("an inclusion", "{% include 'chat_template' %}");
    is_refused("an extension", "{% extends 'chat_template' %}");
    is_refused("an import", "{% import 'chat_template' as x %}{{ x }}");
}

/// Nesting that is within the limits: it may work or be refused, and must not end the process.
#[test]
fn long_templates_do_not_exhaust_the_stack() {
    let many = |part: &str, count| part.repeat(count);
    for source in [
        format!("{{{{ 1{} }}}}", many("+1", 2000)),
        format!("{{{{ 'a'{} }}}}", many("~'b'", 2000)),
        format!("{{{{ x{} }}}}", many(".y", 2000)),
        format!("{{{{ x{} }}}}", many("[0]", 1300)),
        format!("{{{{ x{} }}}}", many("|upper", 2000)),
        format!("{{{{ {}1 }}}}", many("-", 4000)),
        format!("{{{{ {}1 }}}}", many("not ", 4000)),
        format!("{{{{ 1 {} }}}}", many(" if 1", 2000)),
        format!("{{{{ 1 {} }}}}", many(" if 0 else 1", 1000)),
        format!("{{{{ 1 {} }}}}", many(" is odd", 1500)),
        format!("{{{{ {}1{} }}}}", many("(", 90), many(")", 90)),
        format!("{{{{ {}1{} }}}}", many("[", 90), many("]", 90)),
        format!("{{% if x %}}{}{{% endif %}}", many("{% elif x %}", 9900)),
        format!("{}{}", many("{% if true %}", 140), many("{% endif %}", 140)),
        format!("{}{}", many("{% for x in [1] %}", 140), many("{% endfor %}", 140)),
        format!("{{% set x = [1] %}}{}{{{{ x }}}}", many("{% set x = x[0:] %}", 9000)),
        format!("{{% set x = [1] %}}{}{{{{ x }}}}", many("{% set x = x|map('upper') %}", 9000)),
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|reject('none') %}{% endfor %}{{ ns.x }}".into(),
    ] {
        let _ = render(&source, json!({}));
    }
}

/// As a caller on a small stack would: neither compiling nor rendering uses the caller's.
#[test]
fn a_small_stack_is_enough() {
    let thread = std::thread::Builder::new().stack_size(64 << 10);
    let result = thread.spawn(|| render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", json!({})).is_err());
    assert!(result.unwrap().join().unwrap());
}

// --- any template ---------------------------------------------------------------------------------------------------

/// Pieces of templates, so that random ones get past the lexer now and then.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{%-",
    "-%}",
    "{#",
    "#}",
    "{{-",
    "-}}",
    " ",
    "\n",
    "x",
    "messages",
    "loop",
    "ns",
    "'a'",
    "\"",
    "'",
    "1",
    "0",
    "-",
    "+",
    "*",
    "**",
    "/",
    "//",
    "%",
    "~",
    "|",
    ".",
    ",",
    ":",
    "=",
    "==",
    "!=",
    "<",
    ">=",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "if ",
    "elif ",
    "else",
    "endif",
    "for ",
    " in ",
    "endfor",
    "set ",
    "endset",
    "macro ",
    "endmacro",
    "call ",
    "endcall",
    "filter ",
    "endfilter",
    "with ",
    "endwith",
    "raw",
    "endraw",
    "generation",
    "endgeneration",
    "break",
    "continue",
    "recursive",
    " is ",
    "not ",
    " and ",
    " or ",
    "defined",
    "none",
    "true",
    "namespace(",
    "range(",
    "dict(",
    "raise_exception(",
    "strftime_now(",
    "upper",
    "length",
    "join",
    "tojson",
    "list",
    "sort",
    "map",
    "first",
    "last",
    "reverse",
    "items()",
    "split(",
    "replace(",
    "format(",
    "strip()",
    "get(",
    "é",
    "\u{2028}",
    "\\",
    "?",
    "99999999999999999999",
    "1e400",
    "0x",
    "1.",
    "_",
];

fn any_source() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        30 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let tag = prop::collection::vec(piece.clone(), 0..8).prop_map(|pieces| format!("{{{{ {} }}}}", pieces.join(" ")));
    let statement = (
        prop::sample::select(vec!["if x", "for i in messages", "set x =", "set ns.x =", "with x =", "macro m(x)"]),
        piece.clone(),
    )
        .prop_map(|(head, rest)| format!("{{% {head} {rest} %}}"));
    let end =
        prop::sample::select(vec!["{% endif %}", "{% endfor %}", "{% endset %}", "{% endwith %}", "{% endmacro %}"])
            .prop_map(str::to_owned);
    prop::collection::vec(
        prop_oneof![3 => piece, 2 => tag, 1 => statement, 1 => end, 1 => Just("{{ m(x) }}".to_owned())],
        0..30,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(Config::with_cases(3000))]

    #[test]
    fn no_template_panics(source in any_source()) {
        let context = json!({"messages": [{"role": "user", "content": "é"}, 1, null], "x": [1, "b"], "ns": {"x": 1}});
        if let Err(error) = render(&source, context) {
            prop_assert!(!error.to_string().contains("panic"), "{source:?}: {error}");
        }
    }

    #[test]
    fn text_without_tags_is_written_as_it_is(source in "[^{]{0,300}") {
        let expected = source.strip_suffix('\n').unwrap_or(&source);
        let expected = expected.strip_suffix('\r').unwrap_or(expected);
        prop_assert_eq!(render(&source, json!({})).unwrap(), expected);
    }
}
