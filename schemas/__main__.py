"""`python -m schemas` writes the contract's documents anew; `… release` also freezes them as the next release."""

import sys

from schemas.contract import ASYNCAPI, RELEASED, documents, released, schemas, text

if sys.argv[1:] not in ([], ["release"]):
    raise SystemExit(__doc__)
for path, content in documents().items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    print(path)
if sys.argv[1:]:
    folder = RELEASED / str(max(released(), default=0) + 1)
    folder.mkdir(parents=True)
    for name, schema in schemas().items():
        (folder / f"{name}.schema.json").write_text(text(schema), encoding="utf-8")
    (folder / ASYNCAPI.name).write_text(documents()[ASYNCAPI])
    print(folder)
