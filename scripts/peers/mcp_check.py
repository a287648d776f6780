"""Calls the tools of AAM with the reference client of the Model Context Protocol and prints what it saw as JSON.

usage: mcp_check.py stdio COMMAND ARGUMENT... | mcp_check.py http URL TOKEN
stdin: the calls, as a JSON list of [tool, arguments].
"""
import asyncio
import json
import os
import sys

import httpx2
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


async def session(streams, calls):
    async with ClientSession(streams[0], streams[1]) as client:
        welcome = await client.initialize()
        listed = await client.list_tools()
        results = []
        for tool, arguments in calls:
            result = await client.call_tool(tool, arguments)
            results.append(result.model_dump(mode="json", by_alias=True))
        return {
            "server": welcome.model_dump(mode="json", by_alias=True),
            "tools": [tool.model_dump(mode="json", by_alias=True) for tool in listed.tools],
            "results": results,
        }


async def main():
    calls = json.load(sys.stdin)
    if sys.argv[1] == "stdio":
        parameters = StdioServerParameters(command=sys.argv[2], args=sys.argv[3:], env=dict(os.environ))
        async with stdio_client(parameters) as streams:
            return await session(streams, calls)
    headers = {"Authorization": f"Bearer {sys.argv[3]}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with streamable_http_client(sys.argv[2], http_client=http) as streams:
            return await session(streams, calls)


print(json.dumps(asyncio.run(main())))
