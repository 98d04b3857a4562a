#!/usr/bin/env bash
# The folder rule of docs/building.md: who may include whom, and who may know that there is a Windows.
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0

# refuse FOLDER PATTERN REASON: no #include line of the folder's files may match the pattern.
refuse() {
    local found
    found=$(grep -rnE --include='*.[ch]' "^[[:space:]]*#[[:space:]]*include[[:space:]]+[<\"]$2" "$1")
    if [ -n "$found" ]; then
        echo "$1 $3:"
        echo "$found"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

outside='(\.\./)*'
refuse core/vm "$outside(core/x86|x86|devices|block|net|win32)/" "includes a folder above it"
refuse core/x86 "$outside(devices|block|net|win32)/" "includes more than its own folder and core/vm"
refuse devices "$outside(core/x86|x86|block|net|win32)/" "includes more than its own folder and core/vm"
refuse block "$outside(core/x86|x86|devices|net|win32)/" "includes more than its own folder and core/vm"
refuse net "$outside(core/x86|x86|devices|block|win32)/" "includes more than its own folder and core/vm"
for folder in core/vm core/x86 devices block net; do
    refuse "$folder" '(windows|winsock2?|ws2tcpip|SDL|SDL2/.*|unistd|pthread|sys/.*|poll|fcntl)\.h' "knows the operating system"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
