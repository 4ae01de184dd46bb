"""`python -m services.gateway` serves; `… keys` and `… users` say who may call: the first admin is made here."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from rich.console import Console
from rich.table import Column, Table

from services.gateway import keys, passwords, users
from services.gateway.access import Role
from services.gateway.audit import COMMAND_LINE
from services.gateway.server import serve
from services.postgres import UNREACHABLE
from services.run import run
from services.settings import settings

Result = TypeVar("Result")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="The gateway, its API keys and its users.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(keys_app, name="keys")
users_app = typer.Typer(no_args_is_help=True, help="Users of the dashboard.")
app.add_typer(users_app, name="users")


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Serve, unless a command is named."""
    if context.invoked_subcommand is None:
        run(serve, settings())


@keys_app.command()
def create(
    role: Annotated[Role, typer.Option(help="What it may do.")],
    account: Annotated[str | None, typer.Option(help="Whose orders it makes; without it, its own.")] = None,
    name: Annotated[str, typer.Option("--name", "--note", help="Who has it.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="How long it lives; without it, for ever.")
    ] = None,
) -> None:
    """Make a key and print it: it is shown this once."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    print(_asked(lambda connection: keys.create(connection, role, account, name, expires_at=expires_at)))


@keys_app.command("list")
def list_() -> None:
    """Every key, without its secret."""
    table = Table(Column("id", no_wrap=True), "role", "account", "name", "created", "expires", "last used", "revoked")
    for row in _asked(keys.list_all):
        times = (row[column] for column in ("created_at", "expires_at", "last_used_at", "revoked_at"))
        table.add_row(row["id"], row["role"], row["account"], row["name"], *map(_spoken, times))
    Console().print(table)


@keys_app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The part of the key before the dot.")]) -> None:
    """Refuse a key from now on."""
    if not _asked(lambda connection: keys.revoke(connection, key_id)):
        _fail(f"no key {key_id} to revoke")
    print(f"revoked {key_id}")


@users_app.command("create")
def create_user(
    name: Annotated[str, typer.Argument(help="What they log in with.")],
    role: Annotated[Role, typer.Option(help="What they may do.")],
) -> None:
    """Make a user; the password is asked for, or read from standard input."""
    password = _password(name)
    if not _asked(lambda connection: users.create(connection, COMMAND_LINE, name, role, passwords.hashed(password))):
        _fail(f"there is a user {name} already")
    print(f"created {name}")


@users_app.command("list")
def list_users() -> None:
    """Every user."""
    table = Table(Column("name", no_wrap=True), "role", "created", "last login", "disabled")
    for row in _asked(users.list_all):
        times = (row[column] for column in ("created_at", "last_login_at", "disabled_at"))
        table.add_row(row["name"], row["role"], *map(_spoken, times))
    Console().print(table)


@users_app.command("change")
def change_user(
    name: Annotated[str, typer.Argument(help="Whom.")],
    role: Annotated[Role | None, typer.Option(help="What they may do from now on.")] = None,
    *,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new one; ends their sessions.")] = False,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Whether they may log in.")] = None,
) -> None:
    """Change a role or a password, or keep somebody out."""
    password_hash = passwords.hashed(_password(name)) if password else None
    if not _asked(
        lambda connection: users.change(
            connection, COMMAND_LINE, name, role=role, password_hash=password_hash, disabled=disabled
        )
    ):
        _fail(f"no user {name}")
    print(f"changed {name}")


def _password(name: str) -> str:
    """Never an argument: these are for everybody on the machine to see."""
    if sys.stdin.isatty():
        said = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        said = sys.stdin.readline().rstrip("\n")
    try:
        passwords.check(name, said)
    except ValueError as error:
        _fail(str(error))
    return str(said)


def _spoken(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds")


def _asked(work: Callable[[asyncpg.Connection[Any]], Awaitable[Result]]) -> Result:
    """What PostgreSQL says; one line and exit code 1 where it cannot be asked."""

    async def connected() -> Result:
        connection = await asyncpg.connect(settings().database_url.get_secret_value(), timeout=5)
        try:
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(connected())
    except asyncpg.UndefinedTableError as error:
        _fail(f"{error}: run `python -m services.setup`")
    except (*UNREACHABLE, asyncpg.PostgresError) as error:
        _fail(f"setting DATABASE_URL: {error}")
    except ValueError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    app()
