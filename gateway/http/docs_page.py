"""GET /docs: the description of the API as one page without scripts or foreign assets."""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

Schema = Mapping[str, Any]
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
code, .method { font-family: ui-monospace, monospace; font-size: 0.9em; }
.method { display: inline-block; width: 4.5em; font-weight: bold; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.6rem 0.2rem 0; border-bottom: 1px solid #ddd; }
details { margin: 0.3rem 0; }
summary { cursor: pointer; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } th, td { border-color: #444; }
a { color: #8cf; } }
"""
_LIMITS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def render(document: Schema) -> str:
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    operations = [
        (operation["tags"][0], method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    tags = dict.fromkeys(tag for tag, *_ in operations)
    sections = [
        f"<h2>{escape(tag)}</h2>" + "".join(_operation(*rest) for of_tag, *rest in operations if of_tag == tag)
        for tag in tags
    ]
    components = [_component(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><p>{escape(info["description"])} As <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(sections)}<h2>Schemas</h2>{''.join(components)}</body></html>\n"
    )


def _operation(method: str, path: str, operation: Schema) -> str:
    request = operation.get("requestBody", {}).get("content", {})
    rows = [("request", kind, _type(body["schema"]), "") for kind, body in request.items()]
    for status, response in operation["responses"].items():
        for kind, body in response["content"].items():
            shown = _type(body["schema"]) if "schema" in body else _events(body["itemSchema"])
            rows.append((status, kind, shown, escape(response["description"])))
    table = "".join(
        f"<tr><td>{when}</td><td>{escape(kind)}</td><td>{shown}</td><td>{why}</td></tr>"
        for when, kind, shown, why in rows
    )
    return (
        f'<details><summary><span class="method">{method.upper()}</span><code>{escape(path)}</code> '
        f"{escape(operation['summary'])}</summary><table>{table}</table></details>"
    )


def _events(item: Schema) -> str:
    return f"each event: {_type(item['properties']['data']['contentSchema'])}"


def _component(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_type(of)}</td>"
        f"<td>{'required' if field in required else _default(of)}</td></tr>"
        for field, of in schema.get("properties", {}).items()
    )
    about = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    body = f"<table>{rows}</table>" if rows else f"<p>{_type(schema)}</p>"
    return f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>{about}{body}'


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default is None else f"default <code>{escape(str(default))}</code>"


def _type(schema: Schema) -> str:
    """In few words; escaped."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}"><code>{name}</code></a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(_type(choice) for choice in schema[key])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items') or {})}"
    if kind == "object":
        return f"object of {_type(schema['additionalProperties'])}" if schema.get("additionalProperties") else "object"
    limits = [f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema]
    return escape(" ".join([kind, *limits]))
