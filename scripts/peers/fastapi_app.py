"""A small service whose OpenAPI 3.1 description is written by FastAPI, not by us.

Reads TOKEN and KEY from the environment. GET /calls tells which methods were received.
"""

import os
from typing import Annotated, Optional

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

TOKEN = os.environ["TOKEN"]
KEY = os.environ["KEY"]
bearer = HTTPBearer(auto_error=True)
api_key = APIKeyHeader(name="X-Api-Key", auto_error=True)
calls: dict[str, int] = {}


class Author(BaseModel):
    name: str
    best_friend: Optional["Author"] = None


class Book(BaseModel):
    id: int
    title: str
    year: Optional[int] = None
    author: Author


class BookPage(BaseModel):
    items: list[Book]
    total: int


app = FastAPI(title="Library", version="2.4.1")
BOOKS = [Book(id=i, title=f"Book {i}", author=Author(name=f"Author {i}")) for i in range(300)]


@app.middleware("http")
async def count(request: Request, call_next):
    calls[request.method] = calls.get(request.method, 0) + 1
    return await call_next(request)


def allowed(given: Annotated[HTTPAuthorizationCredentials, Security(bearer)]):
    if given.credentials == TOKEN + "-unprivileged":
        raise HTTPException(403, "this token may not read books")
    if given.credentials != TOKEN:
        raise HTTPException(401, "unknown token")


def keyed(given: Annotated[str, Security(api_key)]):
    if given != KEY:
        raise HTTPException(401, "unknown key")


@app.get("/books", operation_id="listBooks", dependencies=[Depends(allowed)])
def list_books(limit: Annotated[int, Query(ge=1, le=100)] = 50) -> BookPage:
    return BookPage(items=BOOKS[:limit], total=len(BOOKS))


@app.get("/books/{book_id}", operation_id="getBook", dependencies=[Depends(allowed)])
def get_book(book_id: int) -> Book:
    return BOOKS[book_id]


@app.post("/books", operation_id="addBook", dependencies=[Depends(allowed)])
def add_book(book: Book) -> Book:
    return book


@app.get("/authors", operation_id="listAuthors", dependencies=[Depends(keyed)])
def list_authors() -> list[Author]:
    return [book.author for book in BOOKS]


@app.get("/calls", operation_id="countCalls")
def count_calls() -> dict[str, int]:
    return calls
