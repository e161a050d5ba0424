"""The tables of `rrti_sgl.db.tables` as SQLAlchemy knows them: what migrations are compared with."""

from __future__ import annotations

from typing import Any

from duckdb_sqlalchemy.datatypes import USmallInteger, UTinyInteger
from sqlalchemy import (
    ARRAY,
    JSON,
    REAL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
)
from sqlalchemy.types import TypeEngine

from rrti_sgl.db.tables import TABLES

_TYPES: dict[str, TypeEngine[Any]] = {
    "VARCHAR": String(), "INTEGER": Integer(), "BIGINT": BigInteger(), "SMALLINT": SmallInteger(), "DOUBLE": Double(),
    "FLOAT": REAL(), "BOOLEAN": Boolean(), "TIMESTAMP": DateTime(), "JSON": JSON(), "UTINYINT": UTinyInteger(),
    "USMALLINT": USmallInteger(),
}  # fmt: skip


def _type(name: str) -> TypeEngine[Any]:
    return ARRAY(_TYPES[name[:-2]]) if name.endswith("[]") else _TYPES[name]


METADATA = MetaData()
for _table in TABLES.values():
    _columns = [
        Column(
            column.name,
            _type(column.type),
            primary_key=column.key,
            nullable=column.null,
            autoincrement=False,
            comment=column.comment,
        )
        for column in _table.columns
    ]
    Table(_table.name, METADATA, *_columns, comment=_table.comment)
