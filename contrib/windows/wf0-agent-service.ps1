# wf0-agent as a Windows service: it starts with the machine, under an account of its own, NT SERVICE\wf0-agent.
#
# "wf0-agent service install", called as administrator, does what this script does. By hand: put wf0-agent.exe beside
# this file, correct the three settings below, open PowerShell as administrator in this folder and call
#
#   powershell -ExecutionPolicy Bypass -File wf0-agent-service.ps1
#
# The account has only the rights that it is given. Give it access to the repositories (modify), and to the CLI and the
# folders on PATH (read). List the repositories in git's safe.directory (git config --system), and log the CLI in for
# that account. Or let the service run as you: services.msc, WorkForce0 agent, Log On.
#
# Settings, state and log are in %ProgramData%\wf0-agent. Uninstall:
#
#   Stop-Service wf0-agent
#   sc.exe delete wf0-agent

$ErrorActionPreference = 'Stop'
$folder = "$env:ProgramData\wf0-agent"
$program = "$folder\wf0-agent.exe"
$settings = "$folder\settings"

New-Item -ItemType Directory -Force $folder | Out-Null
Copy-Item wf0-agent.exe $program
New-Service -Name wf0-agent -DisplayName 'WorkForce0 agent' -StartupType Automatic `
  -Description 'Runs WorkForce0 tickets with a coding CLI' `
  -BinaryPathName "`"$program`" run-as-service --env-file `"$settings`"" | Out-Null
sc.exe config wf0-agent start= delayed-auto obj= 'NT SERVICE\wf0-agent'
# After a crash the service starts again. With the exit codes 76 (other version), 77 (token rejected) and 78 (wrong
# settings) it stays stopped, because a restart does not help.
sc.exe failure wf0-agent reset= 86400 actions= restart/10000/restart/60000/restart/300000

# The folder is closed before the token is written: first the administrators own it, even if another user made it; then
# all earlier rights go; then only the system, the administrators and the service have access.
icacls $folder /setowner '*S-1-5-32-544' /T /C /L /Q
icacls $folder /reset /T /C /L /Q
icacls $folder /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' 'NT SERVICE\wf0-agent:(OI)(CI)M'

Set-Content $settings 'WORKFORCE0_API_URL=https://workforce0.example.com'
Add-Content $settings 'WORKFORCE0_AGENT_TOKEN=wfa_...'
Add-Content $settings "REPO_PATHS='C:\projects\app'"

# A service does not see the PATH of your shell. If the log says that the CLI was not found, add its folder here.
$variables = "PATH=$env:PATH", "STATE_DIR=$folder\state"
New-ItemProperty HKLM:\SYSTEM\CurrentControlSet\Services\wf0-agent -Name Environment -PropertyType MultiString `
  -Value $variables -Force | Out-Null
Start-Service wf0-agent
Get-Service wf0-agent
